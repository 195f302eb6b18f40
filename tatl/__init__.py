"""TATL: Task Agnostic Transfer Learning for skin-lesion attributes.

A lesion network crops (Stage 1), an attribute-agnostic segmenter learns the union of all attribute masks
(Stage 2), and one target segmenter per attribute starts from it (Stage 3).
"""

"""Drawn skin lesions and textures, for where there are no real ones."""

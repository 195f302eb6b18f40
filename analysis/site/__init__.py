"""Notebooks to static pages: executed, rendered, and listed on an index."""

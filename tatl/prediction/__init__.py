"""Trained networks to masks in files, their pictures and their scores."""

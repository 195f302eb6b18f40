"""Presets: YAML files, one for each way to run a study."""

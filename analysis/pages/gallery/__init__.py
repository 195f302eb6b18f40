"""Pages of single cases: what networks find in them, and which masks they do not believe."""

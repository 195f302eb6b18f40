"""From a named study to trained runs to tables."""

"""Writing a store so that it can be stopped at any moment."""

"""Picture and mask files to arrays, by one set of rules."""

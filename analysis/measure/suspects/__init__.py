"""Wrong masks: the cases and attributes of a store, ranked by how little trained networks believe their masks."""

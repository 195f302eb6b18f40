"""One module per notebook: what its figures, tables and sentences are; the notebook only calls them."""

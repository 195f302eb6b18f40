"""One module per study: which tables, figures and sentences its page has; `page` is what they share."""

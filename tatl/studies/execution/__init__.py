"""Where runs are trained: here, or in several processes."""

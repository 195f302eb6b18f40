"""Where runs are trained: here, in several processes, or on a Ray cluster."""

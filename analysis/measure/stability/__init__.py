"""Definition 1 measured: passes of one-pass SGD from starts, with forks that differ in one example."""

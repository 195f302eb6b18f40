"""python -m analysis.stability: how stable training from starts is (Definition 1), by coupled passes of SGD."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from analysis.measure.commands import run_command
    from analysis.measure.stability.command import measure_stability

    sys.exit(run_command(measure_stability, "analysis.stability"))

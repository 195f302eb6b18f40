"""python -m analysis.bound: the stability bound of starts (Figure 7); `bound` itself is a formula (Eq. 6-8)."""

from __future__ import annotations

import sys

from analysis.curvature.stability import bound

__all__ = ["bound"]

if __name__ == "__main__":
    from analysis.measure.commands import measure_bound, run_command

    sys.exit(run_command(measure_bound, "analysis.bound"))

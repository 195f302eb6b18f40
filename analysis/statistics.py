"""python -m analysis.statistics: paired differences between the rows of a study, and their ranks."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from analysis.tables.ranks import run_compare

    sys.exit(run_compare())

"""python -m analysis.spectrum: the eigenvalues of starts' mean Hessians, their density and trace."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from analysis.measure.commands import measure_spectrum, run_command

    sys.exit(run_command(measure_spectrum, "analysis.spectrum"))

"""python -m analysis.spectrum: the eigenvalues of starts' mean Hessians, their density and trace."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from analysis.measure.commands import main, spectrum

    sys.exit(main(spectrum, "analysis.spectrum"))

"""python -m analysis.report: notebooks on the tables of a study, rendered as static pages."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from analysis.site.build import report_from

    sys.exit(report_from())

"""python -m analysis.suspects: the masks of a store, ranked by how little trained networks believe them."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from analysis.measure.suspects.command import rank_suspects
    from tatl import cli

    sys.exit(cli.script(rank_suspects, "analysis.suspects"))

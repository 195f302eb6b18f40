"""How fast the phantom draws, on one core:  python benchmarks/phantom.py"""

from __future__ import annotations

import statistics
import sys
import time

from tatl import cli
from tatl.data.case import Size
from tatl.data.phantom.drawing import draw_case


def main(cases: int = 100, repeats: int = 5) -> None:
    """Print images per second at two sizes.

    Args:
        cases: drawn at 96x128, and a tenth of them at 384x512
        repeats: the median is over so many
    """
    for size, count in ((Size(96, 128), cases), (Size(384, 512), max(1, cases // 10))):
        rates = []
        for repeat in range(repeats):
            started = time.process_time()
            for index in range(count):
                draw_case(repeat, index, size)
            rates.append(count / (time.process_time() - started))
        print(f"{size}: {statistics.median(rates):.0f} images/s per core (median of {repeats})")


if __name__ == "__main__":
    sys.exit(cli.script(main))

"""How fast the phantom draws, on one core:  python benchmarks/phantom.py"""

from __future__ import annotations

import statistics
import time

from tatl.data.case import Size
from tatl.data.phantom.drawing import draw_case

for size, cases in ((Size(96, 128), 100), (Size(384, 512), 10)):
    rates = []
    for repeat in range(5):
        started = time.process_time()
        for index in range(cases):
            draw_case(repeat, index, size)
        rates.append(cases / (time.process_time() - started))
    print(f"{size}: {statistics.median(rates):.0f} images/s per core (median of 5)")

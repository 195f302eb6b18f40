"""How long `make report` takes in a fresh clone, and the most memory it holds.

    python benchmarks/report.py                    the smoke preset, about a minute
    python benchmarks/report.py --preset quick     the README's figure

The clone holds what is committed and nothing that was made before: no store, no run, no table.  The present `.venv` is
shared, so installing is left out.  Memory is the sum of resident memory over all processes that make starts, pages
that they share counted in each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
EVERY = 0.2  # seconds between two looks at the memory


def clone(folder: Path) -> None:
    """The committed state of this project, with its environment."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / ".venv").symlink_to(ROOT / ".venv")


def resident(process: psutil.Process) -> int:
    """Bytes in memory of a process and all below it."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.NoSuchProcess:  # it has just ended
                continue
    except psutil.NoSuchProcess:
        pass
    return total


def report(folder: Path, preset: str) -> tuple[float, int]:
    """Seconds and peak bytes of `make report`; SystemExit where it fails."""
    # The clone's files are newer than the environment: without -o make would install the clone into it.
    command = ["make", "report", f"PRESET={preset}", "-o", ".venv/ready"]
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}) as make:
        watched = psutil.Process(make.pid)
        while make.poll() is None:
            peak = max(peak, resident(watched))
            time.sleep(EVERY)
    seconds = time.perf_counter() - started
    if make.returncode or not (folder / "reports" / preset / "index.html").is_file():
        raise SystemExit(f"`{' '.join(command)}` failed with status {make.returncode}: see what it printed above")
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="smoke", help="of tatl/studies/presets")
    preset = parser.parse_args().preset
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clone"
        clone(folder)
        seconds, peak = report(folder, preset)
    minutes, rest = divmod(round(seconds), 60)
    print(f"make report PRESET={preset}: {minutes} min {rest} s, at most {peak / 1e9:.2f} GB over the process tree")


if __name__ == "__main__":
    main()

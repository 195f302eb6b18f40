"""How long `make report` takes in a fresh clone, and what a run, a page and a command cost.

    python benchmarks/report.py                         the smoke preset, about two minutes
    python benchmarks/report.py --preset quick          the README's figure, and all others: 16 minutes on quiet cores
    python benchmarks/report.py --preset quick --install true  as a stranger has it: the environment is made too

The clone holds what is committed and nothing that was made before: no store, no run, no table.  Without `--install` the
present `.venv` is shared.  Memory is the sum of resident memory over all processes, pages that they share counted in
each.  A run is timed in this process, on one thread: `fit` as studies call it, over what its steps alone take on one
batch that stays in memory.  The frozen encoder and the tables of large studies have scripts of their own (frozen.py,
tables.py), which are run with what the preset makes of them.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from tatl import cli
from tatl.data.store import Store
from tatl.run import Run
from tatl.studies.planner import Planner
from tatl.studies.settings import Settings, load_preset
from tatl.training.learner import Learner
from tatl.training.tasks import make_task
from tatl.training.trainer import fit

ROOT = Path(__file__).resolve().parents[1]
EVERY = 0.2  # seconds between two looks at the memory
ROUNDS = 3  # medians are over so many
STEPS = 20
CPU = torch.device("cpu")
TIMED = {  # command: seconds that it may take
    "-m tatl --help": 0.3,
    "-m tatl study variants --preset {preset} --plan": 1.5,
    "-m analysis.report --study all --tables reports/{preset}/tables --out reports/{preset}": 0.5,
}
FIRST = "-m analysis.report --study all --tables reports/{preset}/tables --out pages"
OTHERS = {
    "quick": ("frozen.py --backbone efficientnet-lite0 --shapes link", "tables.py"),
    "smoke": ("tables.py --folds 1 --cases 30 --size 32x64",),
}


def clone(folder: Path, install: bool) -> None:
    """The committed state of this project, with its environment unless it is to be installed."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    if not install:
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


def report(folder: Path, preset: str, install: bool) -> tuple[float, float, int]:
    """Seconds of `make report`, seconds until its first page, and peak bytes; SystemExit where it fails."""
    # The clone's files are newer than the environment: without -o make would install the clone into it.
    command = ["make", "report", f"PRESET={preset}", *([] if install else ["-o", ".venv/ready"])]
    pages = folder / "reports" / preset
    started, peak, first, begun = time.perf_counter(), 0, 0.0, time.time()
    with subprocess.Popen(command, cwd=folder, env=environment(folder, install)) as make:
        watched = psutil.Process(make.pid)
        while make.poll() is None:
            peak = max(peak, resident(watched))
            page = pages / "variants.html"
            if not first and page.is_file() and page.stat().st_mtime > begun:
                first = time.perf_counter() - started
            time.sleep(EVERY)
    seconds = time.perf_counter() - started
    if make.returncode or not (pages / "index.html").is_file():
        raise SystemExit(f"`{' '.join(command)}` failed with status {make.returncode}: see what it printed above")
    return seconds, first, peak


def environment(folder: Path, install: bool) -> dict[str, str]:
    return {**os.environ, **({} if install else {"PYTHONPATH": str(folder)})}


def timed(command: str, folder: Path, install: bool) -> float:
    """Seconds of a command of the clone, in a process of its own."""
    started = time.perf_counter()
    words = [str(folder / ".venv/bin/python"), *shlex.split(command)]
    told = subprocess.run(words, cwd=folder, env=environment(folder, install), capture_output=True, encoding="utf-8")
    if told.returncode:
        raise SystemExit(f"`python {command}` failed with status {told.returncode}:\n{told.stderr}")
    return time.perf_counter() - started


def written() -> int:
    """Bytes that this process has given to be written so far."""
    return int(psutil.Process().io_counters().write_chars)  # type: ignore[attr-defined]  # Linux alone has it


def run_of(preset: str, store: Store) -> Run:
    """A run that needs no other, at the preset's settings: the rarest attribute of the report from its source."""
    values = load_preset(preset).settings
    return Planner(Settings(**{**values, "attributes": "streaks"}), store).members(["stage3"])[0].run


def step_seconds(run: Run, store: Store, folder: Path) -> tuple[float, int]:
    """Median seconds of a bare step of a run, and how many steps it takes without early stopping."""
    task = make_task(run, store, folder)
    task.model.to(memory_format=torch.channels_last)
    optimizer = Learner(run, task).configure_optimizers()
    batches = task.batches(0)
    inputs = task.feed(batches[0], CPU)
    task.feed = lambda indices, device: inputs  # type: ignore[attr-defined,method-assign]
    task.model.train()
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        optimizer.zero_grad()
        task.loss(batches[0], CPU).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), len(batches) * run.recipe.epochs


def runs(preset: str, folder: Path) -> Iterator[tuple[str, float, float, str]]:
    """Rows of the table on single runs."""
    torch.set_num_threads(1)
    store = Store.open(folder / "stores" / f"phantom-{preset}")
    run = run_of(preset, store)
    run = replace(run, recipe=replace(run.recipe, patience=run.recipe.epochs))
    ratios, rests = [], []
    for number in range(ROUNDS):
        bare, steps = step_seconds(run, store, folder)
        started = time.perf_counter()
        fit(run, folder / f"timed{number}", store, device="cpu", progress=False)
        seconds = time.perf_counter() - started
        ratios.append(seconds / (bare * steps))
        rests.append(seconds - bare * steps)
    yield f"a run over its {steps} bare steps", statistics.median(ratios), 1.10, ""
    yield "what a run takes besides", statistics.median(rests), 0.5, "s"
    long = replace(run, recipe=replace(run.recipe, epochs=40, patience=40))
    before = written()
    made = fit(long, folder / "long", store, device="cpu", progress=False)
    share = (written() - before) / (made / "weights.safetensors").stat().st_size
    yield "bytes of a 40-epoch run over its weights", share, 6, ""


def main(preset: str = "smoke", install: bool = False) -> None:
    """Print the table: what was measured, and what is wanted.

    Args:
        preset: of tatl/studies/presets
        install: make the environment too, as in a fresh clone
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clone"
        clone(folder, install)
        seconds, first, peak = report(folder, preset, install)
        minutes, rest = divmod(round(seconds), 60)
        print(f"make report PRESET={preset}: {minutes} min {rest} s, at most {peak / 1e9:.2f} GB over the process tree")
        print(f"{'':60}  measured    goal")
        print(row("make report", seconds, 480, "s"))
        print(row("until its first page", first, 240, "s"))
        print(row(FIRST.format(preset=preset), timed(FIRST.format(preset=preset), folder, install), 40, "s"))
        for command, goal in TIMED.items():
            asked = command.format(preset=preset)
            print(row(asked, statistics.median(timed(asked, folder, install) for _ in range(ROUNDS)), goal, "s"))
        for measured in runs(preset, folder):
            print(row(*measured))
        for other in OTHERS.get(preset, ()):
            print(f"\n{other}", flush=True)
            script, *options = shlex.split(other)
            subprocess.run([sys.executable, str(ROOT / "benchmarks" / script), *options], cwd=ROOT, check=True)


def row(what: str, measured: float, goal: float, unit: str) -> str:
    return f"{what:60}  {measured:8.2f}  {goal:6.2f} {unit}"


if __name__ == "__main__":
    sys.exit(cli.script(main))

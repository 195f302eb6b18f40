"""How far the runs to do are: a line for each that has ended, and on a terminal a bar that is drawn every second.

The processes that train write where they are into a folder that the bar reads.  One estimate of the time left: the work
of what is done and begun, at the pace so far.  Early stopping makes it an upper one.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from tatl.data.store import Store
from tatl.machine.disk import own_folder
from tatl.run import Run
from tatl.studies.runtime.effort import work

SECOND = 1.0
TOLD_IN = ".tatl-"  # how the folders begin in which processes tell how far they are
LINE = "{percentage:3.0f}% {desc} |{bar}|"  # the bar takes what the words leave
Tell = Callable[[str, str], None]
TASK = 10  # letters of a task that the bar shows, so that two runs at work fit into 80 columns


class Teller(Callback):
    """Tells once a second where the training of a run is: `tell` takes the name of the run and what is told."""

    def __init__(self, run: Run, tell: Tell, where: str = "") -> None:
        self.where = f" on {where}" if where else ""
        self.name, self.task, self.epochs = run.hash, run.task, run.recipe.epochs
        self.tell, self.told = tell, 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, learner: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if time.monotonic() - self.told < SECOND:
            return
        self.told, epoch = time.monotonic(), trainer.current_epoch
        share = (epoch + (index + 1) / trainer.num_training_batches) / self.epochs
        words = f"{self.task[:TASK]} {epoch + 1}/{self.epochs} loss {float(outputs['loss']):.2f}{self.where}"
        self.tell(self.name, json.dumps([share, words]))


def tell_in(folder: Path, name: str, words: str) -> None:
    """Tell where a board reads it; what a disk does not take is not told, and training goes on."""
    partial = folder / f"{name}.partial"
    with suppress(OSError):
        partial.write_text(words, encoding="utf-8")
        partial.replace(folder / name)


def _told(path: Path) -> tuple[float, str] | None:
    """What was told there, if anything: the share of a run that is done, and its words."""
    try:
        share, words = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    return share, words


class Board:
    """What is said while runs are trained; inside `with`, their tellers write into `folder`, which lies in `place`.

    None: where temporary files lie.
    """

    def __init__(self, todo: Sequence[Run], store: Store, shown: bool, place: Path | None = None) -> None:
        self.work = {run: work(run, store) for run in todo}
        self.ended, self.shown, self.started = set[Run](), shown, time.monotonic()
        self._ends, self._over = ExitStack(), threading.Event()
        if place:
            self.folder = self._ends.enter_context(own_folder(place, TOLD_IN))
        else:
            self.folder = Path(self._ends.enter_context(tempfile.TemporaryDirectory(prefix=TOLD_IN)))
        hidden = not shown or not sys.stderr.isatty()
        self.bar = tqdm(total=1.0, bar_format=LINE, dynamic_ncols=True, disable=hidden)
        self._drawer = threading.Thread(target=self._redraw, daemon=True)

    def __enter__(self) -> Board:
        if not self.bar.disable:
            self._drawer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._drawer.is_alive():
            self._drawer.join()
        self.bar.close()
        self._ends.close()

    def say(self, text: str) -> None:
        if self.shown:
            tqdm.write(text)

    def end(self, run: Run, what: str) -> None:
        """A line for a run that has ended."""
        self.ended.add(run)
        left = self.left()
        self.say(f"[{len(self.ended)}/{len(self.work)}] {run.title()}: {what}" + (f", about {left}" if left else ""))

    def left(self, begun: float = 0.0) -> str:
        """The time left, with so much work begun; empty before there is a pace, and at the end."""
        done, whole = begun + sum(self.work[run] for run in self.ended), sum(self.work.values())
        if not done or len(self.ended) == len(self.work):
            return ""
        minutes = (whole - done) * (time.monotonic() - self.started) / done / 60
        return f"{max(minutes, 1):.0f} min left"

    def draw(self) -> None:
        """The bar as it is now: the share of the work, the time left, and the runs at work with their loss."""
        told = [(run, _told(self.folder / run.hash)) for run in self.work if run not in self.ended]
        at_work = [(run, *found) for run, found in told if found]
        begun = sum(self.work[run] * share for run, share, _ in at_work)
        self.bar.n = (begun + sum(self.work[run] for run in self.ended)) / max(sum(self.work.values()), 1.0)
        words = [f"{len(self.ended)}/{len(self.work)}", self.left(begun), *(words for _, _, words in at_work)]
        self.bar.set_description_str(", ".join(filter(None, words)))

    def _redraw(self) -> None:
        while not self._over.wait(SECOND):
            self.draw()

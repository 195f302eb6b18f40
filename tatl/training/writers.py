"""Where losses are written beside history.csv, which every run has: by Lightning's own writers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

Log = Literal["csv", "tensorboard"]
_WRITERS = ("tensorboard", "tensorboardX")  # either will do


def check_log(log: Log) -> None:
    """ValueError where what writes it is not installed."""
    if log == "tensorboard" and not any(find_spec(name) for name in _WRITERS):
        raise ValueError("--log tensorboard needs a writer, not installed here: pip install 'tatl[tensorboard]'")


def writer(log: Log, folder: Path, step: int) -> Logger | None:
    """What writes the losses after so many steps into `tensorboard/` of a run's folder; None: history.csv says all."""
    if log == "csv":
        return None
    from lightning.pytorch.loggers import TensorBoardLogger

    # What a run that broke wrote after its last checkpoint is not shown twice.
    return TensorBoardLogger(folder, name="tensorboard", version="", purge_step=step + 1)

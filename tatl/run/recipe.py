"""How a network is trained: a part of what makes a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WORDS = {"optimizer": ("sgd", "adamw"), "pool": ("batch", "image"), "precision": ("32", "bf16")}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.  Defaults are the paper's where it gives them (Section 5.1).

    optimizer "sgd" (the paper's, with momentum) or "adamw"
    pool      "batch": the loss is pooled over the mini-batch; "image": a loss per image, averaged
    balance   least share of each mini-batch drawn from images whose mask is not empty
    patience  epochs without a lower validation loss before training stops
    calibration  training images over which BatchNorm statistics are re-estimated before every evaluation
                 (tatl.training.batch_norm); 0: the running averages are used
    precision "32" or "bf16" (autocast)
    augment   training images are turned, flipped, shifted, zoomed and brightened at random (tatl.data.augment)

    A default is never changed, here or in `tatl.run.Run`: it says what a hash without the field means.
    """

    epochs: int = 40
    patience: int = 10
    batch: int = 16
    optimizer: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    pool: str = "batch"
    balance: float = 0.5
    calibration: int = 128
    precision: str = "32"
    augment: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "patience", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} must be positive")
        if self.calibration < 0:
            raise ValueError(f"calibration {self.calibration} is a number of images: give 0 or more")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance {self.balance} is a share of the mini-batch: give a number from 0 to 1")
        for name, known in _WORDS.items():
            among(name, [getattr(self, name)], known)


def among(field: str, given: Sequence[str], known: Sequence[str]) -> None:
    """ValueError for words that are not known, and for none at all."""
    if unknown := [word for word in given if word not in known] if given else ["(empty)"]:
        raise ValueError(f"{field} {', '.join(unknown)} unknown: choose of {', '.join(known)}")

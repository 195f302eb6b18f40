"""What a person sees of training: one line an epoch, and nothing that no user of Lightning can mend."""

from __future__ import annotations

import logging
import warnings
from typing import Any, cast

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from tatl.training.learner import Learner


class EpochBar(Callback):
    """One line an epoch: images and their rate, loss, learning rate."""

    interval = 0.1  # seconds between two drawings

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_epoch_start(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        recipe = cast(Learner, learner).run.recipe
        name = f"{self.title}, epoch {trainer.current_epoch + 1}/{recipe.epochs}"
        images = int(trainer.num_training_batches) * recipe.batch
        self.bar = tqdm(total=images, desc=name, unit="image", leave=False, mininterval=self.interval)

    def on_train_batch_end(
        self, trainer: L.Trainer, learner: L.LightningModule, outputs: Any, batch: np.ndarray, index: int
    ) -> None:
        if index % 5 == 0:
            rate = cast(Learner, learner).run.recipe.lr
            self.bar.set_postfix({"loss": f"{float(outputs['loss']):.3f}", "lr": rate}, refresh=False)
        self.bar.update(len(batch))

    def on_train_epoch_end(self, trainer: L.Trainer, learner: L.LightningModule) -> None:
        self.bar.close()

    def on_exception(self, trainer: L.Trainer, learner: L.LightningModule, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def quiet_lightning() -> None:
    """Leave out what Lightning says to every user of it: hardware, tips, and warnings that do not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in (
        ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.15: a deprecation between the two
        "GPU available but not used",  # --device cpu on a machine with a GPU
        ".*does not have a deterministic implementation",  # max-unpooling and a few others have no such kernel
        ".*in eval mode at the start of training",  # a frozen encoder is, and meant to be
    ):
        warnings.filterwarnings("ignore", message=message)

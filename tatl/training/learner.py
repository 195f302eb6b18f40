"""A task in Lightning's terms: batches by epoch, losses remembered, BatchNorm calibrated, the best weights kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from tatl.data.batches import sent
from tatl.models.starts import freeze, start_rule
from tatl.run import Run
from tatl.training.batch_norm import calibrate, several_values
from tatl.training.tasks import Task

CHECK_EVERY = 20
VALIDATION_LOSS = "validation_loss"


class Chunks:
    """The validation batches (Lightning takes a plain list for several loaders)."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.chunks = learner.task.validation_batches()

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(sent(self.chunks, self.learner.device))


class Batches:
    """The current epoch's batches."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.steps = len(learner.task.batches(0))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from sent(list(self.learner.task.batches(self.learner.current_epoch)), self.learner.device)


class Learner(L.LightningModule):
    """A task in Lightning's terms; remembers its losses and the best weights it had."""

    def __init__(self, run: Run, task: Task) -> None:
        super().__init__()
        self.run, self.task, self.model = run, task, task.model
        self.history: list[dict[str, Any]] = []
        self.best_loss, self.best_epoch = float("inf"), -1
        self.best: dict[str, Tensor] = {}
        self._pending: list[tuple[Tensor, np.ndarray]] = []
        self._sums: Tensor | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        recipe = self.run.recipe
        trained = [p for p in self.model.parameters() if p.requires_grad]
        if recipe.optimizer == "adamw":
            return torch.optim.AdamW(trained, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        return torch.optim.SGD(trained, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=True)

    def train_dataloader(self) -> Batches:
        return Batches(self)

    def val_dataloader(self) -> Chunks:
        return Chunks(self)

    def on_train_epoch_start(self) -> None:
        if start_rule(self.run.start).frozen:
            freeze(cast(nn.Module, self.model.encoder))
        torch.manual_seed(self.run.seed * 1_000_003 + self.current_epoch)

    def training_step(self, indices: np.ndarray) -> Tensor:
        with several_values():
            loss = self.task.loss(indices, self.device)
        self._pending.append((loss.detach(), indices))
        if len(self._pending) >= CHECK_EVERY:
            self._record()
        return loss

    def _record(self) -> None:
        """Move the pending losses into the history; ValueError at the first that is not finite."""
        losses = torch.stack([loss for loss, _ in self._pending]).tolist() if self._pending else []
        rate = self.run.recipe.lr
        for loss, (_, indices) in zip(losses, self._pending, strict=True):
            step = 1 + (self.history[-1]["step"] if self.history else 0)
            if not np.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {loss} at step {step} (epoch {self.current_epoch}) on "
                    f"{self._named(indices)}: lower --lr (now {rate}) or look at these images"
                )
            row = {"epoch": self.current_epoch, "step": step, "split": "train", "loss": loss, "lr": rate}
            self.history.append(row)
        self._pending = []

    def _named(self, indices: np.ndarray) -> str:
        """Images by their ids in the task's store; by number where the task draws its own."""
        store = getattr(self.task, "store", None)
        if store is None:
            return f"images {indices.tolist()}"
        return f"images {', '.join(store.cases['id'].to_numpy()[indices])} of store {store.name!r}"

    def on_validation_model_eval(self) -> None:
        if self.run.recipe.calibration:
            batches = sent(self.task.calibration_batches(self.current_epoch), self.device)
            with self.trainer.precision_plugin.forward_context():
                calibrate(self.model, lambda indices: self.task.forward(indices, self.device), batches)
        self.eval()

    def validation_step(self, indices: np.ndarray) -> None:
        sums = self.task.validation_sums(indices, self.device)
        self._sums = sums if self._sums is None else self._sums + sums

    def on_validation_epoch_end(self) -> None:
        """Remember the loss; before the first step (Lightning's sanity check) it is step 0's, never the best."""
        self._record()
        loss = self.task.validation_loss(cast(Tensor, self._sums))
        self._sums = None
        step = self.history[-1]["step"] if self.history else 0
        row = {"epoch": self.current_epoch, "step": step, "split": "validation", "loss": loss, "lr": self.run.recipe.lr}
        self.history.append(row)
        if self.trainer.sanity_checking:
            return
        if not np.isfinite(loss):
            raise FloatingPointError(f"the validation loss is {loss} after step {step}: lower --lr")
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.current_epoch
            self.best = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        self.log(VALIDATION_LOSS, loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        best = {"best": self.best, "best_loss": self.best_loss, "best_epoch": self.best_epoch}
        checkpoint["tatl"] = {"run": self.run.hash, "history": self.history, **best}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = dict(checkpoint["tatl"])
        kept.pop("run")
        for name, value in kept.items():
            setattr(self, name, value)

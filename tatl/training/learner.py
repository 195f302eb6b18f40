"""A task in Lightning's terms: batches by epoch, losses remembered, BatchNorm calibrated, the best weights kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from tatl.data.batches import sent
from tatl.models.starts import freeze, start_rule
from tatl.run import Run
from tatl.training.base import TrainingTask
from tatl.training.batch_norm import calibrate, several_values

CHECK_EVERY = 20
VALIDATION_LOSS = "validation_loss"
KEPT = ("history", "best", "best_loss", "best_epoch")  # in a checkpoint, beside Lightning's own


class Batches:
    """Batches of indices, made anew by every pass over them (Lightning takes a plain list for several loaders)."""

    def __init__(self, learner: Learner, make: Callable[[], Sequence[np.ndarray]]) -> None:
        self.learner, self.make = learner, make
        self.steps = len(make())

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from sent(list(self.make()), self.learner.device)  # when they are asked for: resuming sets the epoch late


class Learner(L.LightningModule):
    """A task in Lightning's terms; remembers its losses and the best weights it had."""

    def __init__(self, run: Run, task: TrainingTask) -> None:
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
        return Batches(self, lambda: cast(Sequence[np.ndarray], self.task.batches(self.current_epoch)))

    def val_dataloader(self) -> Batches:
        return Batches(self, self.task.validation_batches)

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

    def _note(self, step: int, split: str, loss: float) -> None:
        """A row of history.csv."""
        rate = self.run.recipe.lr
        self.history.append({"epoch": self.current_epoch, "step": step, "split": split, "loss": loss, "lr": rate})
        if self.logger:
            self.logger.log_metrics({f"loss/{split}": loss}, step)

    @property
    def _steps(self) -> int:
        """Steps whose losses are known."""
        return self.history[-1]["step"] if self.history else 0

    def _record(self) -> None:
        """Move the pending losses into the history; FloatingPointError at the first that is not finite."""
        losses = torch.stack([loss for loss, _ in self._pending]).tolist() if self._pending else []
        for loss, (_, indices) in zip(losses, self._pending, strict=True):
            step = self._steps + 1
            if not np.isfinite(loss):
                images = f"{', '.join(map(str, self.task.ids[indices]))}{self.task.of_store}"
                remedy = f"lower --lr (now {self.run.recipe.lr}) or look at these images"
                where = f"at step {step} (epoch {self.current_epoch}) on images {images}"
                raise FloatingPointError(f"the loss is {loss} {where}: {remedy}")
            self._note(step, "train", loss)
        self._pending = []

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
        self._note(self._steps, "validation", loss)
        if self.trainer.sanity_checking:
            return
        if not np.isfinite(loss):
            raise FloatingPointError(f"the validation loss is {loss} after step {self._steps}: lower --lr")
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.current_epoch
            self.best = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        self.log(VALIDATION_LOSS, loss, prog_bar=True, logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = {name: getattr(self, name) for name in KEPT}
        checkpoint["tatl"] = {"run": self.run.hash, **kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in KEPT:
            setattr(self, name, checkpoint["tatl"][name])

"""What a run trains: its model, its batches, its loss, and what is measured when it is finished.

`fit` sees only this interface, so one training loop serves every network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tatl.data.batches import EVALUATION_BATCH, balanced_batches, chunks, even_chunks
from tatl.data.folds import split
from tatl.data.store import Store
from tatl.run import Run


class TrainingTask:
    """A run's network and images.  What it learns is in `forward`, `loss`, `validation_sums` and `finish`.

    ids        the name of every image
    train      indices of the images that teach; `positive` says which the recipe balances: bool [n], here all of them,
               which makes an epoch one plain shuffled pass
    validation indices of those that choose the epoch
    tested     indices of those on which it is scored in the end
    of_store   for people: where the images are from
    """

    model: nn.Module
    tested: np.ndarray
    of_store = ""
    evaluation_batch = EVALUATION_BATCH

    def __init__(self, run: Run, ids: np.ndarray, train: np.ndarray, validation: np.ndarray) -> None:
        self.run, self.ids, self.train, self.validation = run, ids, train, validation
        self.positive = np.ones(len(train), bool)

    def batches(self, epoch: int) -> np.ndarray:
        """Indices int [steps, batch]; a function of (seed, epoch) alone."""
        rng, recipe = np.random.default_rng([self.run.seed, epoch]), self.run.recipe
        return self.train[balanced_batches(self.positive, recipe.batch, recipe.balance, rng)]

    def calibration_batches(self, epoch: int) -> list[np.ndarray]:
        """Training images for BatchNorm statistics, as they come (not balanced); a function of (seed, epoch)."""
        order = np.random.default_rng([self.run.seed, epoch, 1]).permutation(self.train)
        return even_chunks(order[: self.run.recipe.calibration])

    def validation_batches(self) -> list[np.ndarray]:
        return chunks(self.validation, self.evaluation_batch)

    def forward(self, indices: np.ndarray, device: torch.device) -> Tensor:
        """The model's output for these images."""
        raise NotImplementedError

    def loss(self, indices: np.ndarray, device: torch.device) -> Tensor:
        """The training loss of a batch, a scalar."""
        raise NotImplementedError

    def validation_sums(self, indices: np.ndarray, device: torch.device) -> Tensor:
        """Sums that add up over batches: here of losses, and their number."""
        raise NotImplementedError

    def validation_loss(self, sums: Tensor) -> float:
        return float(sums[0] / sums[1])

    @torch.no_grad()
    def finish(self, folder: Path, device: torch.device) -> None:
        """Measure the trained model on what it has not seen, and write it into the run's folder: scores.csv."""
        self.model.eval()
        write_scores(folder, [self.scores(chunk, device) for chunk in chunks(self.tested, self.evaluation_batch)])

    def scores(self, indices: np.ndarray, device: torch.device) -> pd.DataFrame:
        """What is measured on these images, a row each."""
        raise NotImplementedError


class StoreTask(TrainingTask):
    """A task on the images of a store, by the run's fold of it: `split`, which is taught from the `known` [N] alone."""

    def __init__(self, run: Run, store: Store, known: np.ndarray | None = None) -> None:
        self.store, self.of_store = store, f" of store {store.name!r}"
        whole = split(store, run.fold, run.n_folds, run.split_seed, run.fraction)
        self.split, self.tested = whole if known is None else whole.where(known), whole.test
        super().__init__(run, store.cases["id"].to_numpy(), self.split.train, self.split.validation)


def with_count(total: Tensor, count: int) -> Tensor:
    """What `validation_loss` divides: a sum of losses, and their number."""
    return torch.stack([total, total.new_full((), count)])


def write_scores(folder: Path, tables: list[pd.DataFrame]) -> None:
    """scores.csv of a run, one table below the other."""
    pd.concat(tables).to_csv(folder / "scores.csv", index=False)

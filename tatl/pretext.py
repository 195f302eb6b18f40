"""Pretexts: what a network can learn without any attribute mask.

`TextureClassification` makes the `textures` source domain, an offline stand-in for ImageNet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from tatl.data.case import Size
from tatl.data.feed import balanced_batches, chunks, even_chunks, normalise
from tatl.data.textures import CLASSES, draw_textures
from tatl.inits import seeded
from tatl.models.encoders import Classifier
from tatl.run import Recipe, Run

TEXTURES = "textures"
TEXTURE_RECIPE = Recipe(epochs=5, patience=5, batch=32, optimizer="adamw", lr=0.003, weight_decay=0.01, balance=0.0)


def texture_run(backbone: str = "efficientnet-b0", recipe: Recipe = TEXTURE_RECIPE) -> Run:
    """The run that makes the `textures` weights of a backbone; one for all stores and seeds, as ImageNet is."""
    return Run(TEXTURES, "", "48x48", TEXTURES, "encoder", backbone, "random", "random", n_folds=1, recipe=recipe)


class TextureClassification:
    """Which of a dozen drawn textures is it?  Trains the encoder of the `textures` source domain."""

    trained, held = 1680, 240

    def __init__(self, run: Run) -> None:
        self.run = run
        self.model = seeded(lambda: Classifier(run.backbone, len(CLASSES)), run.seed)
        self.pictures, self.labels = draw_textures(self.trained + self.held, Size.parse(run.size).height, run.seed)

    def batches(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.run.seed, epoch])
        return balanced_batches(np.ones(self.trained, bool), self.run.recipe.batch, 0, rng)

    def _forward(self, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        images = normalise(torch.from_numpy(self.pictures[indices]).to(device))
        labels = torch.from_numpy(self.labels[indices]).to(device)
        return self.model(images.contiguous(memory_format=torch.channels_last)).float(), labels

    def calibration_batches(self, epoch: int) -> list[np.ndarray]:
        shuffled = np.random.default_rng([self.run.seed, epoch, 1]).permutation(self.trained)
        return even_chunks(shuffled[: self.run.recipe.calibration])

    def forward(self, indices: np.ndarray, device: torch.device) -> Tensor:
        return self._forward(indices, device)[0]

    def loss(self, indices: np.ndarray, device: torch.device) -> Tensor:
        logits, labels = self._forward(indices, device)
        return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))

    def validation_batches(self) -> list[np.ndarray]:
        return chunks(np.arange(self.trained, self.trained + self.held), 64)

    def validation_sums(self, indices: np.ndarray, device: torch.device) -> Tensor:
        logits, labels = self._forward(indices, device)
        loss = F.cross_entropy(logits.mean(0), labels, reduction="sum")
        return torch.stack([loss, loss.new_tensor(len(indices))])

    def validation_loss(self, sums: Tensor) -> float:
        return float(sums[0] / sums[1])

    @torch.no_grad()
    def finish(self, folder: Path, device: torch.device) -> None:
        """scores.csv: image, label, predicted, over the held-out textures."""
        self.model.eval()
        held = np.arange(self.trained, self.trained + self.held)
        logits = torch.cat([self._forward(chunk, device)[0].mean(0) for chunk in chunks(held, 64)])
        names = np.array(list(CLASSES))
        predicted = names[logits.argmax(1).cpu().numpy()]
        table = pd.DataFrame({"image": held, "label": names[self.labels[held]], "predicted": predicted})
        table.to_csv(folder / "scores.csv", index=False)

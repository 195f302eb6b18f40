"""The task of every run: segmentation of one mask of a store, here, or a pretext (`tatl.training.pretext`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tatl.data.augment import augmented
from tatl.data.batches import Feed, chunks, even_chunks, sent
from tatl.data.case import Size
from tatl.data.crop import Box, grow, lesion_box, paste, read_boxes, resample
from tatl.data.folds import Split
from tatl.data.store import Store
from tatl.losses import label_overlaps, loss_from_overlaps
from tatl.models import OwnLoss, Segmenter, build
from tatl.models.encoders import Classifier
from tatl.models.imagenet import imagenet_encoder
from tatl.models.starts import freeze, read_weights, seeded, start_rule, transfer
from tatl.names import CONTEXT, LESION, MULTILABEL, ROTATION, SHUFFLED, TEXTURES, UNION
from tatl.run import Run
from tatl.training.base import StoreTask, TrainingTask, with_count, write_scores
from tatl.training.batch_norm import calibrate
from tatl.training.frozen_features import Frozen
from tatl.training.inference import infer, quantise, truth
from tatl.training.metrics import confusion, score_table
from tatl.training.pretext import ANGLES, ContextRestoration, Rotation, TextureClassification

CPU = torch.device("cpu")


class Segmentation(StoreTask):
    """One mask of a store: the lesion, the union (its own, or another image's: shuffled), or an attribute; or all
    attributes at once (multilabel), an output each, their losses averaged.

    Images where a mask is unknown are left out of training and validation, and have no score.
    """

    model: Segmenter

    def __init__(
        self, run: Run, store: Store, root: Path, imagenet_weights: Path | None = None, device: torch.device = CPU
    ) -> None:
        mask = UNION if run.task in (SHUFFLED, MULTILABEL) else run.task  # the union is known where all attributes are
        self.labels = store.attributes if run.task == MULTILABEL else (mask,)
        self.known = store.known(mask)
        super().__init__(run, store, self.known)
        boxes = None
        if run.cropper is not None:
            boxes = grow(read_boxes(run.cropper.folder(root)), run.offset, store.size)
        lender = shuffled(self.split, len(store), run.seed) if run.task == SHUFFLED else None
        present = store.present(mask) if lender is None else store.present(mask)[lender]
        self.positive = present[self.train]
        if not self.positive.any():
            raise ValueError(f"no training image of fold {run.fold} of store {store.name!r} has {mask}")
        self.validation = held(self.split, present)
        self.feed = Feed(store, self.labels, boxes, lender)
        self.model = cast(Segmenter, start_model(run, root, imagenet_weights, len(self.labels)))
        fixed = start_rule(run.start).frozen
        if fixed and run.parent is None:
            self._settle(device)
        seen = np.concatenate([self.split.train, self.split.validation])
        self.frozen = Frozen(self.model.encoder, self.feed, seen) if fixed and not run.recipe.augment else None

    def _settle(self, device: torch.device) -> None:
        """Give a random encoder that stays as it is the BatchNorm statistics of its images, which it never learns."""
        encoder = self.model.encoder
        encoder.to(device).train()
        batches = sent(self.calibration_batches(0) or even_chunks(self.split.train), device)
        calibrate(encoder, lambda indices: self.model.features(self.feed(indices, device)[0]), batches)
        freeze(encoder)

    def forward(self, indices: np.ndarray, device: torch.device) -> Tensor:
        return self._logits(indices, self.feed(indices, device)[0])

    def _logits(self, indices: np.ndarray, images: Tensor) -> Tensor:
        """Of whole images as the feed gives them; what a frozen encoder makes of them may be known."""
        if self.frozen is None:
            return self.model(images)
        return self.model.decode(images, self.frozen(indices, images, self.model.features))

    def loss(self, indices: np.ndarray, device: torch.device) -> Tensor:
        images, masks = self.feed(indices, device)
        if self.run.recipe.augment:
            images, masks = augmented(images, masks)
        if isinstance(self.model, OwnLoss):
            return self.model.training_loss(images, masks)
        sums = label_overlaps(self._logits(indices, images), masks)
        return loss_from_overlaps(sums.sum(0) if self.run.recipe.pool == "batch" else sums).mean()

    def validation_sums(self, indices: np.ndarray, device: torch.device) -> Tensor:
        """Overlaps pooled over the whole validation part, or per-image losses: as the recipe trains."""
        images, masks = self.feed(indices, device)
        sums = label_overlaps(self._logits(indices, images), masks)
        if self.run.recipe.pool == "batch":
            return sums.sum(0)
        return with_count(loss_from_overlaps(sums).mean(1).sum(), len(indices))

    def validation_loss(self, sums: Tensor) -> float:
        pooled = self.run.recipe.pool == "batch"
        return float(loss_from_overlaps(sums).mean()) if pooled else super().validation_loss(sums)

    def finish(self, folder: Path, device: torch.device) -> None:
        test = self.split.test
        size = Size.parse(self.run.score_size) if self.run.score_size else self.store.size
        probabilities = self.probabilities(test, size, device)
        several = self.run.task == MULTILABEL  # then maps and scores are called by their attribute
        maps = dict(zip(self.labels if several else ("probabilities",), probabilities, strict=True))
        np.savez_compressed(folder / "probabilities.npz", **maps)  # type: ignore[arg-type]  # nearly all are zero
        tables = list[pd.DataFrame]()
        for mask, found in zip(self.labels, probabilities, strict=True):
            fractions = confusion(found >= 128, truth(self.store, mask, test, size))
            fractions[~self.store.known(mask)[test]] = np.nan
            tables.append(score_table(self.ids[test], mask if several else self.run.task, fractions))
        write_scores(folder, tables)
        if self.run.task == LESION:
            self._write_boxes(folder, device)

    def probabilities(self, indices: np.ndarray, size: Size, device: torch.device) -> np.ndarray:
        """Probabilities in the store's frame scaled to `size`: uint8 [labels, n, h, w], floor(256 p)."""
        boxes = self.feed.boxes
        parts = []
        for chunk in chunks(indices):
            p = infer(self.model, self.feed(chunk, device)[0], partial(self._logits, chunk))
            frames = p if boxes is None else torch.stack([
                paste(crop, box, self.store.size) for crop, box in zip(p, boxes[chunk], strict=True)
            ])  # fmt: skip
            parts.append(quantise(resample(frames, size)))
        return np.concatenate(parts).swapaxes(0, 1)

    def _write_boxes(self, folder: Path, device: torch.device) -> None:
        boxes: list[Box] = []
        for chunk in chunks(np.arange(len(self.store))):
            lesions = (infer(self.model, self.feed(chunk, device)[0])[:, 0] >= 0.5).cpu().numpy()
            boxes += [lesion_box(lesion) for lesion in lesions]
        table = pd.DataFrame(boxes, columns=["top", "left", "bottom", "right"])
        table.insert(0, "image", self.ids)
        table.to_csv(folder / "boxes.csv", index=False)


def held(parts: Split, present: np.ndarray) -> np.ndarray:
    """The images that choose the epoch: the validation part, or where none of it has the mask, training images.

    Without a positive the loss is lowest for predicting nothing, and would choose the network that does.  Training
    images, as many and at least half of them positive where there are that many, tell at least whether it is found.
    """
    if present[parts.validation].any():
        return parts.validation
    count = max(len(parts.validation), 2)
    rich = parts.train[present[parts.train]][: max(1, count // 2)]
    poor = parts.train[~present[parts.train]][: count - len(rich)]
    return np.sort(np.concatenate([rich, poor]))


def shuffled(parts: Split, count: int, seed: int) -> np.ndarray:
    """For every image another of its own part (training, validation, test), whose mask it gets: int [count].

    No image keeps its own mask where its part has two or more.
    """
    lender, draw = np.arange(count), np.random.default_rng([seed, 2])
    for part in (parts.train, parts.validation, parts.test):
        order = draw.permutation(part)
        lender[order] = np.roll(order, 1)
    return lender


def start_model(run: Run, root: Path, imagenet_weights: Path | None = None, labels: int = 1) -> nn.Module:
    """The run's network at its start, with an output for each label; ValueError where the start cannot be had."""
    model = seeded(lambda: _network(run, labels), run.seed)
    start = start_rule(run.start)
    if run.parent is not None:
        transfer(model, read_weights(run.parent.folder(root) / "weights.safetensors"), start.parts)
    elif start.parts and not (start.long and run.source == "random"):
        if run.source != "imagenet":
            raise ValueError(f"start {run.start!r} needs a parent run or ImageNet weights, source is {run.source!r}")
        transfer(model, imagenet_encoder(run.backbone, imagenet_weights), start.parts)
    if start.frozen:
        freeze(cast(nn.Module, model.encoder))
    return model


def _network(run: Run, labels: int) -> nn.Module:
    if run.task == ROTATION:
        return Classifier(run.backbone, len(ANGLES))
    return build(run.shape, run.backbone, classes=3 if run.task == CONTEXT else labels)


def make_task(
    run: Run, store: Store | None, root: Path, imagenet_weights: Path | None = None, device: torch.device = CPU
) -> TrainingTask:
    """The task of a run; ValueError where the store lacks what it needs.

    The `device` is where what precedes training is computed: the statistics of an encoder that stays random.
    """
    if run.task == TEXTURES:
        return TextureClassification(run)
    if store is None:
        raise ValueError(f"a run of task {run.task!r} needs a store: give --store")
    if (run.digest, run.size) != (store.digest, str(store.size)):
        given = f"{store.path} is another ({store.digest}, {store.size})"
        raise ValueError(f"the run is of store {run.store!r} ({run.digest}, {run.size}) and {given}: give its own")
    if run.task in (ROTATION, CONTEXT):
        pretext = Rotation if run.task == ROTATION else ContextRestoration
        return pretext(run, store, start_model(run, root, imagenet_weights))
    return Segmentation(run, store, root, imagenet_weights, device)

"""A lesion of three pixels: trained, scored and pasted like any other, in one box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tatl.data.batches import Feed
from tatl.data.case import Size
from tatl.data.crop import grow, lesion_box
from tatl.data.folds import split
from tatl.prediction.ensemble import Ensemble
from tatl.studies.results import probabilities
from tatl.training.trainer import fit
from toy import make_store, toy_run

SIZE = Size(96, 128)
LESION = np.zeros(SIZE, bool)
LESION[40, 50:53] = True
BOX = (39, 50, 42, 54)  # 3 x 4, a 32nd of the frame's sides


def test_a_three_pixel_lesion_is_trained_and_scored(tmp_path: Path) -> None:
    store = make_store(tmp_path / "small", SIZE, cases=6, every=(1, 1, 1))
    cropper = toy_run(store, "lesion")
    cropper.folder(tmp_path).mkdir(parents=True)
    columns = ["top", "left", "bottom", "right"]
    tight = pd.DataFrame([lesion_box(LESION)] * len(store), columns=columns)
    tight.to_csv(cropper.folder(tmp_path) / "boxes.csv", index=False)
    run = toy_run(store, cropper=cropper)
    folder = fit(run, tmp_path, store, device="cpu", progress=False)
    seen = probabilities(folder)
    top, left, bottom, right = BOX
    assert seen[:, top:bottom, left:right].all()
    assert seen.any(axis=0).sum() == (bottom - top) * (right - left)
    scores = pd.read_csv(folder / "scores.csv")
    parts = split(store, run.fold, run.n_folds, run.split_seed)
    assert scores["image"].tolist() == store.cases["id"].to_numpy()[parts.test].tolist()
    crop = Feed(store, "disc", grow(tight.to_numpy(), 0, SIZE))(np.array([0]))[1][0, 0]
    truth = torch.from_numpy(store.mask("disc", 0)[top:bottom, left:right]).float()
    assert torch.equal(crop, truth.repeat_interleave(32, 0).repeat_interleave(32, 1))


class Says(nn.Module):
    """A network whose logits are large where the image is bright, or everywhere."""

    def __init__(self, everywhere: bool) -> None:
        super().__init__()
        self.encoder, self.everywhere = nn.Identity(), everywhere

    def features(self, image: Tensor) -> list[Tensor]:
        return [image]

    def decode(self, image: Tensor, features: list[Tensor]) -> Tensor:
        return image[:, :1].mul(0).add(9) if self.everywhere else 9 * image[:, :1].sign()


def test_prediction_cuts_and_pastes_the_box_of_training() -> None:
    image = np.repeat(LESION[..., None] * np.uint8(255), 3, axis=-1)
    networks = {"lesion": [Says(False)], "disc": [Says(True)]}
    ensemble = Ensemble(SIZE, 0, networks, torch.device("cpu"))  # type: ignore[arg-type]
    found = ensemble(image, SIZE)
    assert (found.lesion, found.box) == ("found", BOX)
    assert found.box == tuple(grow(np.array([lesion_box(LESION)]), 0, SIZE)[0])
    assert np.flatnonzero(found.masks["disc"].any(axis=0)).tolist() == [50, 51, 52, 53]
    assert np.flatnonzero(found.masks["disc"].any(axis=1)).tolist() == [39, 40, 41]
    thumbnail = ensemble(image, (3, 4))
    assert thumbnail.box == (1, 2, 2, 3) and thumbnail.masks["disc"].sum() == 1

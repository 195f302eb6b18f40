"""What is known of a start before training: against closed forms, and kept so that a second command reads it."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analysis.curvature.distance import linear_cka
from analysis.curvature.norms import Options
from analysis.curvature.products import Hessians
from analysis.curvature.spectrum import ScaleFree
from analysis.measure.ledger import Subject, subject_name
from analysis.measure.sample import TrainingSample
from analysis.measure.solve import Curvatures
from analysis.measure.stability import predictors as module
from analysis.measure.stability.predictors import predictors, trimmed
from analysis.measure.starts import StartNetwork, StartScene
from small_networks import dense_hessian, example, image_loss, networks
from tatl.models import build
from tatl.studies.execution.crew import Crew
from toy import SMALL, make_store


@pytest.mark.parametrize("name", ["conv", "norm"])
def test_a_scale_free_hessian_is_that_between_the_weights(name: str) -> None:
    model, (image, mask) = networks()[name], example()
    d = torch.cat([w.detach().flatten().abs() for w in model.parameters()])
    expected = d[:, None] * dense_hessian(model, image, mask) * d
    v = torch.randn(len(d), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scaled = ScaleFree(model)
    torch.testing.assert_close(Hessians(scaled, image_loss).at(image, mask)(v), expected @ v)


def test_it_does_not_change_where_two_layers_share_their_scale_otherwise() -> None:
    """relu(a x) w / a is relu(x) w: the plain Hessian changes, this does not."""
    norms = []
    for a in (1.0, 8.0):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1)).double()
        with torch.no_grad():
            for weight in model[0].parameters():
                weight.mul_(a)
            model[2].weight.div_(a)
        plain, free = Hessians(model, image_loss), Hessians(ScaleFree(copy.deepcopy(model)), image_loss)
        dense = [
            torch.stack([each.at(*example())(v) for v in torch.eye(each.at(*example()).gradient.numel()).double()])
            for each in (plain, free)
        ]
        norms.append([torch.linalg.matrix_norm(h, 2).item() for h in dense])
    assert norms[1][1] == pytest.approx(norms[0][1]) and norms[1][0] > 2 * norms[0][0]


def test_alignment_of_features() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 3))
    turned, _ = np.linalg.qr(draw.normal(size=(3, 3)))
    assert linear_cka(x, 5 * x @ turned + 1) == pytest.approx(1)
    assert linear_cka(x, draw.normal(size=(200, 3))) < 0.05


def test_the_trimmed_mean_leaves_out_one_at_least() -> None:
    assert trimmed(np.array([1, 2, 3, 100.0])) == 2.5 and trimmed(np.array([1, 3.0])) == 2
    assert trimmed(np.arange(20.0)) == 9.5 and trimmed(np.array([*range(19), 1e6])) == 9.5


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Any]:
    """Two starts of two seeds on two attributes; of one seed of tatl the end of training is there."""
    folder = tmp_path_factory.mktemp("known")
    store = make_store(folder / "store")
    starts = []
    for name, seed in [("source", 0), ("tatl", 0), ("tatl", 1)]:
        torch.manual_seed(10 * seed + len(name))
        model = build("link", SMALL).eval()
        starts.append(StartNetwork(name, Subject(subject_name(model, store, None), model, store), None, (), seed))
    few = np.array([1, 7])
    chosen = {name: TrainingSample(few, 16) for name in ("disc", "dot")}
    scene = cast(StartScene, SimpleNamespace(train=lambda: np.arange(16), store=store))
    how = Curvatures(Options(max_products=12), folder / "curvature", Crew(workers=1), progress=False)

    def make() -> pd.DataFrame:
        torch.manual_seed(3)
        with pytest.MonkeyPatch.context() as patch:
            end = build("link", SMALL).eval()
            patch.setattr(module, "_end_of", lambda start, name, _: end if (start.seed, name) == (1, "dot") else None)
            return predictors(starts, chosen, how, scene, gradients=5)

    return make(), make


def test_a_row_a_start_attribute_and_seed(measured: tuple[pd.DataFrame, Any]) -> None:
    table, _ = measured
    assert len(table) == 6 and not table.duplicated(["start", "attribute", "seed"]).any()
    known = table.drop(columns=["path", "curvature_trained"])
    assert known.notna().all(axis=None) and (table["images"] == 2).all() and (table["gradients"] == 5).all()
    assert (table["scaled_curvature"] > 0).all() and (table["gradient_noise"] > 0).all()
    distance = table.set_index("start")["feature_distance"]
    assert distance["source"].to_numpy() == pytest.approx(0, abs=1e-9) and (distance["tatl"] > 1e-4).all()
    ends = table[["path", "curvature_trained"]].notna()
    assert ends.any(axis=1).sum() == 1 and ends.all(axis=1)[(table["seed"] == 1) & (table["attribute"] == "dot")].all()


def test_what_was_measured_is_read(measured: tuple[pd.DataFrame, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    table, make = measured
    monkeypatch.setattr(module._Cell, "measure", lambda *_: pytest.fail("it is known"))
    monkeypatch.setattr(Curvatures, "_solve", lambda *_: pytest.fail("it is known"))
    pd.testing.assert_frame_equal(make(), table)

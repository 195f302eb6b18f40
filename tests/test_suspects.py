"""Wrong masks are found, and nobody judges a mask that it has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

import fake_suspects
from analysis.curvature.norms import Options
from analysis.measure.solve import Curvatures
from analysis.measure.suspects.command import rank_suspects
from analysis.measure.suspects.scores import BY_MAPS, by_maps, find_judges, juries, ranked, suspects
from analysis.pages.gallery.suspects import Suspects
from tatl import cli
from tatl.data.folds import split
from tatl.data.store import Store
from tatl.models import build
from tatl.models.starts import seeded
from tatl.run import Run
from tatl.training.trainer import save_weights
from toy import make_store, toy_run


def finish(run: Run, root: Path, store: Store, level: int = 200) -> Run:
    """A finished run at random weights whose maps have a level (of 256) where the true mask is, and 10 elsewhere."""
    folder, test = run.folder(root), split(store, run.fold, run.n_folds).test
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(seeded(lambda: build(run.shape, run.backbone), 0).state_dict(), folder / "weights.safetensors")
    (folder / "run.json").write_text(run.dumps())
    pd.DataFrame({"image": store.cases["id"].iloc[test]}).to_csv(folder / "scores.csv", index=False)
    masks = store.mask(run.task, test)
    np.savez_compressed(folder / "probabilities.npz", probabilities=np.where(masks, level, 10).astype(np.uint8))
    return run


@pytest.fixture
def runs(toy_store: Store, tmp_path: Path) -> Path:
    """Networks of two attributes and of two of three folds."""
    for task in ("disc", "bar"):
        for fold in (0, 1):
            finish(toy_run(toy_store, task, fold=fold), tmp_path / "runs", toy_store)
    return tmp_path / "runs"


def drawn(seed: int = 0, n: int = 60) -> np.ndarray:
    """Blobs bool [n, 24, 32], a third of them empty."""
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.normal(size=(n, 24, 32)), (0, 4, 4))
    return (blobs > np.quantile(blobs, 0.85, axis=(1, 2), keepdims=True)) & (np.arange(n) % 3 > 0)[:, None, None]


@pytest.mark.parametrize("kind", ["shifted", "swapped", "emptied"])
def test_wrong_masks_are_above_right_ones_where_networks_know_them(kind: str) -> None:
    masks = drawn()
    p = np.clip(masks * 0.9 + np.random.default_rng(1).normal(0, 0.0005, masks.shape), 0, 1)
    wrong = np.flatnonzero(masks.any(axis=(1, 2)))[:12]
    given = masks.copy()
    made = {"shifted": np.roll(masks[wrong], (6, 8), (1, 2)), "swapped": np.roll(masks[wrong], 1, axis=0)}
    given[wrong] = made.get(kind, False)
    table = pd.DataFrame(by_maps(p, given)).assign(attribute="disc")
    truth = np.isin(np.arange(len(masks)), wrong)
    assert all(roc_auc_score(truth, table[name]) == 1 for name in BY_MAPS)
    assert set(ranked(table.assign(case=np.arange(len(masks)))).head(12)["case"]) == set(wrong)


def test_scores_by_hand() -> None:
    p, y = np.array([[[0.75, 0.25]], [[0.1, 0.2]]]), np.array([[[True, True]], [[False, False]]])
    found = by_maps(p, y)
    weight = 1 / (1 + np.exp((0.75 - 0.25) / 0.1))  # of the pixel that is believed, the other's is the rest
    assert found["disagreement"] == pytest.approx([1 - 2 / 3, 0])  # both empty: nothing to disagree about
    assert found["improbability"] == pytest.approx([0.5, 0.15])
    assert found["doubt"][0] == pytest.approx(1 - (weight * 0.75 + (1 - weight) * 0.25))
    assert found["loss"][1] == pytest.approx((0.4 * 0.3 / (1 + 0.4 * 0.3) + 0.3 / 1.3) / 2)


def test_the_loss_of_an_empty_mask_is_high_for_little() -> None:
    """Half a per cent in every pixel: the loss finds it as bad as a mask that is missed, the others do not."""
    masks = np.zeros((2, 24, 32), bool)
    masks[1, 4:8, 4:8] = True
    found = by_maps(np.full(masks.shape, 0.005), masks)
    assert found["loss"][0] > 0.6 and all(found[name][0] < 0.1 < found[name][1] for name in ("disagreement", "doubt"))


def test_ranks_are_within_an_attribute() -> None:
    easy = pd.DataFrame({"attribute": "easy", "loss": [0.1, 0.2, 0.3], "doubt": [0.0, 0.5, 0.6]})
    hard = pd.DataFrame({"attribute": "hard", "loss": [0.9, 0.8, 0.7], "doubt": [0.7, 0.9, 0.8]})
    table = ranked(pd.concat([easy, hard]))
    assert table["attribute"].iloc[0] == "easy" and table["suspicion"].iloc[0] == 1  # highest of its own by both
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]


def test_of_curvature_less_is_more_suspect() -> None:
    table = pd.DataFrame({"attribute": "disc", "loss": 0.5, "curvature": [3.0, 1.0, 2.0]})
    assert ranked(table)["curvature"].tolist() == [1, 2, 3]


def test_no_case_is_judged_by_a_network_that_saw_it(runs: Path, toy_store: Store) -> None:
    chosen = find_judges(runs, toy_store)
    made = juries(chosen, runs, toy_store)
    assert [(jury.attribute, jury.fold) for jury in made] == [("bar", 0), ("bar", 1), ("disc", 0), ("disc", 1)]
    for jury in made:
        parts = split(toy_store, jury.fold, 3)
        assert not set(jury.cases) & ({*parts.train} | {*parts.validation}) and set(jury.cases) == set(parts.test)
        assert np.array_equal(jury.probabilities() > 0.5, toy_store.mask(jury.attribute, jury.cases))
    table = suspects(made)
    assert not table.duplicated(["case", "attribute"]).any() and (table["networks"] == 1).all()


def test_a_network_that_rests_on_one_that_saw_the_case_does_not_judge_it(toy_store: Store, tmp_path: Path) -> None:
    agnostic = finish(toy_run(toy_store, "union", fold=1), tmp_path, toy_store)
    finish(toy_run(toy_store, "disc", start="tatl", parent=agnostic), tmp_path, toy_store)
    with pytest.raises(ValueError, match="every case of store 'toy' was seen by the networks"):
        juries(find_judges(tmp_path, toy_store, "stage23"), tmp_path, toy_store)


def test_shapes_and_seeds_are_averaged(toy_store: Store, tmp_path: Path) -> None:
    for level, shape in ((250, "link"), (120, "u")):
        finish(toy_run(toy_store, "disc", shape=shape), tmp_path, toy_store, level)
    (jury,) = juries(find_judges(tmp_path, toy_store), tmp_path, toy_store)
    assert jury.probabilities().max() == 185.5 / 256 and (suspects([jury])["networks"] == 2).all()


def test_what_is_nothing_stays_nothing(toy_store: Store, tmp_path: Path) -> None:
    """Half a step of eight bits on every pixel of an image would be many pixels of a mask."""
    finish(toy_run(toy_store, "disc"), tmp_path, toy_store, level=0)
    (jury,) = juries(find_judges(tmp_path, toy_store), tmp_path, toy_store)
    assert (jury.probabilities() == 0)[jury.masks()].all()


def test_curvature_is_of_the_weights_that_judge(runs: Path, toy_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[int]]] = []

    class Asked(Curvatures):
        def __call__(self, subjects: Any, wanted: Any) -> list[pd.DataFrame]:
            asked.extend((name, [*map(int, cases)]) for each in wanted for name, cases in each.items())
            return [pd.DataFrame({"value": -np.ones(len(*each.values()))}) for each in wanted]

    made = juries(find_judges(runs, toy_store), runs, toy_store)
    table = suspects(made, Asked(Options(), runs / "curvature"))
    expected = [(jury.attribute, jury.cases.tolist()) for fold in (0, 1) for jury in made if jury.fold == fold]
    assert asked == expected and (table["curvature"] == 1).all()


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["suspects", *map(str, words)])
        status = cli.script(rank_suspects, "analysis.suspects")
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_from_runs_to_a_page(runs: Path, toy_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    tables = runs.parent / "tables"
    given = ["--store", toy_store.path, "--runs", runs, "--tables", tables, "--workers", 1, "--attributes", "bar"]
    status, out, _ = run(capsys, *given, "--max-products", 2, "--tolerance", 0.5, "--shown", 3)
    assert status == 0 and "bar: 16 of 24 masks are ranked, the test images of fold 0, 1 of 3" in out
    table = pd.read_csv(tables / "suspects.csv")
    assert table["attribute"].eq("bar").all() and len(table) == 16 and (table["curvature"] > 0).any()
    assert table["suspicion"].is_monotonic_decreasing
    page = Suspects.read(tables)
    assert page.shown["case"].tolist() == table["case"].head(3).tolist()
    ids = toy_store.cases["id"].tolist()
    for case, image, mask in zip(page.shown["case"], page.image, page.given, strict=True):
        assert np.array_equal(image, toy_store.images[ids.index(case)])
        assert np.array_equal(mask, toy_store.mask("bar", ids.index(case)))
    assert "16 of 24 masks" in page.origin().text and "curvature" in page.scores().text
    assert json.loads((tables / "suspects.json").read_text())["store_digest"] == toy_store.digest


def test_what_does_not_fit_is_said(
    runs: Path, toy_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_store(tmp_path / "other", seed=1)
    finish(toy_run(toy_store, "dot", fold=2), tmp_path / "more", toy_store)
    finish(toy_run(toy_store, "dot", split_seed=1), tmp_path / "more", toy_store)
    wrong: list[tuple[list[object], str]] = [
        ([toy_store.path, "--runs", tmp_path / "none"], "has no finished networks of store 'toy' (there are: none)"),
        ([other.path, "--runs", runs], "no finished networks of store 'other' (there are: stage3 on toy)"),
        ([toy_store.path, "--runs", runs, "--attributes", "spot"], "no mask spot: it has lesion, disc, bar, dot"),
        ([toy_store.path, "--runs", runs, "--attributes", "dot"], "no finished stage3 network of dot, only of"),
        ([toy_store.path, "--runs", runs, "--folds", "2"], "no finished runs of stage3 for folds [2]"),
        ([toy_store.path, "--runs", tmp_path / "more"], "the partitions 0, 1 of the store"),
        ([tmp_path / "absent", "--runs", runs], "there is no store at"),
    ]
    for words, said in wrong:
        status, _, err = run(capsys, "--store", *words)
        assert status == 2 and said in err, err
    (map_,) = (runs / "toy" / "bar").glob("*/fold0*/probabilities.npz")
    map_.unlink()
    status, _, err = run(capsys, "--store", toy_store.path, "--runs", runs)
    assert status == 2 and "probabilities.npz is lost" in err


def test_the_page_tells_kinds_and_chooses_attributes(tmp_path: Path) -> None:
    folder = fake_suspects.write(tmp_path)
    page = Suspects.read(folder)
    assert len(page.shown) == 5 and "1 empty where something is found" in page.reading()
    assert "4 elsewhere than what is found" in page.reading()
    some = Suspects.read(folder, "streaks", cases=1)
    assert set(some.table["attribute"]) == {"streaks"} and len(some.shown) <= 1
    none = Suspects.read(folder, cases=0)
    assert none.pictures().text == none.headline().text and "No mask" in none.reading()
    with pytest.raises(ValueError, match="attribute spot is not in"):
        Suspects.read(folder, "spot")


def test_pictures_that_are_lost_or_of_other_masks_are_refused(tmp_path: Path) -> None:
    path = fake_suspects.write(tmp_path) / "suspects.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "given": arrays["given"][:2]})
    with pytest.raises(ValueError, match=r"pictures of other masks than suspects.csv"):
        Suspects.read(tmp_path)
    path.write_bytes(b"PK torn")
    with pytest.raises(ValueError, match=r"cannot be read .*: write it again with `python -m analysis.suspects`"):
        Suspects.read(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"suspects.npz is not there"):
        Suspects.read(tmp_path)

"""Differences between rows: what they are by hand, what they cover, and what they cannot tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.tables.effect import UNDECIDED, Effect
from analysis.tables.evidence import effects
from analysis.tables.ranks import run_compare
from tatl.names import AVERAGE

FOLDS = 5


def made(seed: int, groups: int = 100, seeds: int = 3, gain: float = 0.0, noise: float = 0.0) -> pd.DataFrame:
    """Two rows on the same images: `gain` is the true difference of hits, `noise` that of one training."""
    draws = np.random.default_rng(seed)
    size = draws.lognormal(-3, 1, groups)
    rows = []
    for row, more in (("tatl", gain), ("source", 0.0)):
        for run in range(seeds):
            for fold in range(FOLDS):
                of_run = draws.normal(0, noise)
                own = np.arange(groups) % FOLDS == fold
                hit = np.clip(0.5 + more + of_run + draws.normal(0, 0.15, groups), 0, 1)
                rows.append(pd.DataFrame({
                    "variant": row, "shape": "mean", "seed": run, "fold": fold, "attribute": "dot",
                    "image": np.arange(groups)[own], "group": (np.arange(groups) // 2)[own],
                    "tp": (size * hit)[own], "fn": (size * (1 - hit))[own], "fp": (size * (1 - hit))[own],
                }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.tables.evidence.RESAMPLES", 400)


def of(frame: pd.DataFrame, attribute: str = "dot") -> pd.Series:
    table = effects(frame, "source")
    return table[table["attribute"] == attribute].iloc[0]


def test_by_hand() -> None:
    """Two groups, one fold each: pooled over both, and not the mean of the folds."""
    frame = pd.DataFrame(
        [("tatl", 0, "a", 0.4, 0.0, 0.1), ("tatl", 1, "b", 0.0, 0.1, 0.1),
         ("source", 0, "a", 0.2, 0.0, 0.3), ("source", 1, "b", 0.1, 0.1, 0.0)],
        columns=["variant", "fold", "group", "tp", "fp", "fn"],
    ).assign(shape="mean", seed=0, attribute="dot")  # fmt: skip
    frame["image"] = frame["group"]
    found = of(frame)
    assert found["difference"] == pytest.approx(0.8 / 1.1 - 0.6 / 1.0)
    assert (found["groups"], found["positives"], found["folds"], found["seeds"]) == (2, 2, 2, 1)
    assert found["word"] == UNDECIDED  # of two groups nothing can be said


def test_a_row_against_itself_is_no_difference() -> None:
    frame = made(0)
    same = frame[frame["variant"] == "source"].assign(variant="tatl")
    found = of(pd.concat([same, frame[frame["variant"] == "source"]]))
    assert (
        found[["difference", "low", "high", "spread_images", "spread_training", "folds_low", "folds_high"]].eq(0).all()
    )
    assert found["word"] == UNDECIDED


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_word_is_rarely_said_of_nothing_and_often_of_something(seeds: int) -> None:
    """Where training noise is as large as the images', an interval over images alone would be wrong too often."""
    words = {
        gain: [of(made(trial, seeds=seeds, gain=gain, noise=0.03))["word"] for trial in range(40)]
        for gain in (0.0, 0.25)
    }
    assert sum(word != UNDECIDED for word in words[0.0]) <= 4  # 5 % each, and both intervals have to agree
    assert words[0.25].count("better") >= 34


@pytest.mark.parametrize(("seeds", "groups", "noise"), [(1, 200, 0.0), (1, 200, 0.03), (3, 200, 0.03)])
def test_what_is_detectable_is_detected_in_about_four_of_five(seeds: int, groups: int, noise: float) -> None:
    """At a true difference as large as is said, the word falls in most trials; at a third of it in few."""
    said = np.mean([of(made(trial, groups, seeds, noise=noise))["detectable"] for trial in range(8)])
    for share, low, high in ((1.0, 21, 30), (1 / 3, 0, 12)):
        # Where fp and fn are as many as the misses, the Dice of all is the share of hits.
        words = [of(made(trial, groups, seeds, said * share, noise))["word"] for trial in range(30)]
        assert low <= words.count("better") <= high, (share, words.count("better"))


def test_the_interval_over_images_holds_the_truth_as_often_as_it_says() -> None:
    inside = [(found := of(made(trial, groups=200, seeds=1)))["low"] <= 0 <= found["high"] for trial in range(100)]
    assert 88 <= sum(inside) <= 100


def test_more_groups_folds_or_seeds() -> None:
    design = {"groups": 100, "positives": 50, "folds": 5, "seeds": 2}
    effect = Effect(0.01, -0.01, 0.03, -0.02, 0.04, spread_images=0.01, spread_training=0.01, **design)
    assert effect.word == UNDECIDED and effect.detectable == pytest.approx(0.03 + 0.8416 * 0.01 * 2**0.5, abs=1e-4)
    assert effect.needed(effect.detectable) == {"groups": 100, "folds": 5, "seeds": 2}
    more = effect.needed(0.036)
    assert 100 < more["groups"] < 1000 and 5 < more["folds"] < 50 and 2 < more["seeds"] < 20
    assert set(effect.needed(0.001).values()) == {np.inf}  # a tenth of what images alone let through


def test_the_average_is_over_attributes_that_are_shown() -> None:
    frame = made(0, gain=0.2)
    other = made(1, gain=-0.1).assign(attribute="veil")
    empty = made(2).assign(attribute="none", tp=0.0, fn=0.0)
    frame = pd.concat([frame, other, empty])
    table = effects(frame, "source").set_index("attribute")
    assert table.loc[AVERAGE, "difference"] == pytest.approx(table.loc[["dot", "veil"], "difference"].mean())
    assert table.loc["none", "word"] == UNDECIDED and table.loc["none", "positives"] == 0


def test_an_interval_that_cannot_be_had_decides_nothing() -> None:
    """With the positives in one fold alone there is no spread over folds: NaN was taken for agreement."""
    frame = made(0, gain=0.4, seeds=1)
    hidden = frame["fold"] != 0
    frame.loc[hidden, ["tp", "fn"]] = 0.0
    found = of(frame)
    assert found["low"] > 0 and np.isnan(found["folds_low"]) and found["word"] == UNDECIDED


def test_attributes_that_lack_a_fold_or_images_are_averaged_where_all_are() -> None:
    frame, other = made(0, gain=0.2), made(1, gain=0.2).assign(attribute="veil")
    lacking = other[(other["fold"] != 4) & (other["group"] % 3 != 0)]
    table = effects(pd.concat([frame, lacking]), "source").set_index("attribute")
    assert table["folds"].to_dict() == {"dot": 5, "veil": 4, AVERAGE: 4}
    twin = effects(pd.concat([frame, frame.assign(attribute="veil")]), "source").set_index("attribute")
    assert twin.loc[AVERAGE, ["low", "high"]].equals(twin.loc["dot", ["low", "high"]])  # the same resamples


def test_rows_are_paired_on_what_both_have() -> None:
    frame = made(0)
    fewer = frame[(frame["variant"] == "source") | (frame["seed"] == 0)]
    assert of(fewer)["seeds"] == 1 and of(frame)["seeds"] == 3
    one = of(frame[frame["fold"] == 0])
    assert one["folds"] == 1 and one["word"] == UNDECIDED and np.isnan(one["folds_low"]) is np.False_


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="group"), "lacks the columns group"),
        (lambda f: f.assign(shape="u"), "no shape 'mean': it has u"),
        (lambda f: f[f["variant"] != "source"], "row source is not there"),
        (lambda f: pd.concat([f, f]), "rows twice .first: variant tatl, attribute"),
    ],
)
def test_bad_tables(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        effects(change(made(0)), "source")


def test_the_command_reads_every_image_where_they_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = made(0, gain=0.25)
    frame.to_csv(tmp_path / "paradigms_images.csv.gz", index=False)
    folds = frame.groupby(["variant", "shape", "seed", "fold", "attribute"])[["tp", "fp", "fn"]].sum().reset_index()
    dice = 2 * folds["tp"] / (2 * folds["tp"] + folds["fp"] + folds["fn"])
    folds.assign(positives=20, dice=dice).to_csv(tmp_path / "paradigms_folds.csv", index=False)
    assert run_compare(["--study", "paradigms", "--tables", str(tmp_path), "--reference", "source"]) == 0
    assert "better" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "paradigms_effects.csv")["word"].tolist() == ["better"]

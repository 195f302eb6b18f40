"""Presets load, lists are read, and what cannot be is refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tatl.data.case import Size
from tatl.names import VARIANTS, WINNERS
from tatl.run import Recipe
from tatl.studies.catalogue import LONG
from tatl.studies.places import command_like
from tatl.studies.settings import Settings, comma_list, comma_numbers, load_preset, presets


def test_the_presets_are_these() -> None:
    assert {"paper", "quick", "smoke"} <= set(presets())


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads(name: str) -> None:
    data, values, _ = load_preset(name)
    settings = Settings(**values)
    assert Size.parse(data["size"]) and data["cases"] > settings.n_folds
    assert settings.fold_numbers and settings.seed_numbers and comma_list(settings.shapes)


def test_the_paper_s_preset_is_the_paper_s_protocol() -> None:
    data, values, _ = load_preset("paper")
    settings = Settings(**values)
    assert (data["size"], data["cases"], data["enrich"]) == ("384x512", 2594, False)
    assert (settings.shapes, settings.source, settings.offset, settings.score_size) == (
        "u,link",
        "imagenet",
        40,
        "256x256",
    )
    assert settings.fold_numbers == [0, 1, 2, 3, 4]
    recipe = settings.recipe("target")
    assert (recipe.epochs, recipe.patience, recipe.optimizer, recipe.lr, recipe.momentum) == (40, 10, "sgd", 0.01, 0.9)
    assert settings.recipe("lesion") == settings.recipe("agnostic") == recipe


def test_the_paper_s_preset_has_the_rows_that_train_as_long_as_two_stages_and_both_winners() -> None:
    rows = comma_list(load_preset("paper", "variants").options["variants"])
    assert set(rows) == {*VARIANTS, *LONG, *WINNERS} and len(rows) == len(set(rows))


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preset 'fast' is unknown: choose one of .*paper, quick, smoke"):
        load_preset("fast")


def test_defaults_of_settings_and_recipe_agree() -> None:
    assert Settings().recipe("target") == Recipe()
    shared = {f.name for f in dataclasses.fields(Recipe)}
    assert shared <= {f.name for f in dataclasses.fields(Settings)}


def test_stages_may_have_their_own_epochs() -> None:
    settings = Settings(epochs=3, lesion_epochs=2, agnostic_epochs=5, lr=0.1)
    assert [settings.recipe(stage).epochs for stage in ("lesion", "agnostic", "target")] == [2, 5, 3]
    assert {settings.recipe(stage).lr for stage in ("lesion", "agnostic", "target")} == {0.1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", ["a"]),
        (" a , b ,", ["a", "b"]),
        ("b,a,b", ["b", "a"]),
        ("soft exudate,x", ["soft exudate", "x"]),
    ],
)
def test_lists_are_read_from_commas(text: str, expected: list[str]) -> None:
    assert comma_list(text) == expected


def test_numbers_are_read_once_each() -> None:
    assert comma_numbers("folds", "2, 0,02") == [2, 0]
    assert Settings(folds="1,1").fold_numbers == [1] and Settings(seeds="0,0,3").seed_numbers == [0, 3]
    assert Settings(n_folds=3).fold_numbers == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shapes": "v"}, "shapes v unknown: choose of u, link"),
        ({"shapes": "u,w,link"}, "shapes w unknown"),
        ({"shapes": ""}, r"shapes \(empty\) unknown"),
        ({"source": "places"}, "source places unknown: choose of textures, imagenet, random"),
        ({"score_size": "256"}, "size '256' is not HEIGHTxWIDTH"),
        ({"offset": -1}, "offset -1 is negative"),
        ({"folds": "5"}, r"folds \[5\] do not exist: there are 5, counted from 0"),
        ({"folds": "one"}, "folds 'one' is not a list of whole numbers"),
        ({"seeds": "-1"}, "seeds '-1' is not a list of whole numbers"),
        ({"epochs": 0}, "epochs 0 must be"),
        ({"lesion_epochs": -1}, "epochs -1 must be"),
        ({"lr": 0.0}, "lr 0.0 must be positive"),
        ({"balance": 2.0}, "balance 2.0 is a share"),
        ({"fraction": 0.0}, "fraction 0.0"),
        ({"fraction": 1.2}, "fraction 1.2"),
        ({"n_folds": 1}, "n_folds 1"),
    ],
)
def test_what_cannot_be_is_refused_at_once(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**values)


def test_what_a_study_records_takes_the_place_of_an_option_of_the_command() -> None:
    plain = "python -m analysis.suspects --store stores/phantom-quick"
    assert command_like(plain, {}, Path("t")) == f"{plain} --tables=t"
    told = command_like(plain, {"store": "stores/leaf"}, Path("t"))
    assert told == "python -m analysis.suspects --store=stores/leaf --tables=t"

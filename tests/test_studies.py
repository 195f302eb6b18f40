"""Named studies as runs: what each row starts from, what is shared, and what stops before any training."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch

from fake_study import shown
from tatl.__main__ import main
from tatl.data.augment import augmented
from tatl.data.batches import MEAN, STD, Feed
from tatl.data.case import Case, Size
from tatl.data.folds import split
from tatl.data.store import Store, prepare
from tatl.names import BACKBONES, ISIC2018_WINNER, LESION_NETWORKS, STARTS, VARIANTS
from tatl.run import in_order
from tatl.studies.catalogue import STUDIES, Asked
from tatl.studies.pace import pace
from tatl.studies.planner import Planner
from tatl.studies.results import training_of
from tatl.studies.settings import Settings, StudyName, load_preset
from tatl.studies.write import planner_notes
from tatl.training.tasks import Segmentation, held, make_task, shuffled, start_model
from toy import SIZE, Toy, make_store, toy_run

SETTINGS = {"shapes": "link", "source": "textures", "folds": "0", "n_folds": 3, "offset": 4}


def planner(store: Store, **values: Any) -> Planner:
    return Planner(Settings(**{**SETTINGS, **values}), store)


def runs_of(store: Store, name: str, asked: Asked | None = None, **values: Any) -> dict[str, Any]:
    """Per variant the run of `disc`."""
    found = STUDIES[name].members(planner(store, **values), asked or Asked())
    return {member.variant: member.run for member in found if member.attribute == "disc"}


def test_paradigms_differ_in_their_start_alone(toy_store: Store) -> None:
    found = runs_of(toy_store, "paradigms")
    assert tuple(found) == tuple(name for name in STARTS if name != "textures")
    for row, run in found.items():
        assert (run.cropper is not None) == (row == "stage123")
        assert run.recipe.augment == (row == "augmentation")
    parents = {row: run.parent.task if run.parent else None for row, run in found.items()}
    assert parents == {
        "tatl": "union", "tatl-freeze": "union", "source": "textures", "rotation": "rotation", "context": "context",
        "augmentation": "textures", "random": None, "lesion": "lesion", "shuffled-union": "shuffled-union",
        "frozen-random": None, "stage123": "union", "attention": "textures", "source-long": "textures",
        "multilabel": "multilabel", "multilabel-direct": "textures",
    }  # fmt: skip
    assert found["tatl"].parent == found["tatl-freeze"].parent
    assert found["lesion"].parent.recipe == found["tatl"].parent.recipe == found["shuffled-union"].parent.recipe
    assert found["frozen-random"].start == "frozen-random" and found["frozen-random"].source == "random"


def test_the_long_source_has_the_steps_of_stages_2_and_3(toy_store: Store, tmp_path: Path) -> None:
    asked = planner(toy_store, epochs=3, agnostic_epochs=5, batch=4)
    found = {m.variant: m.run for m in STUDIES["paradigms"].members(asked, Asked()) if m.attribute == "disc"}
    long, source, tatl = (found[name] for name in ("source-long", "source", "tatl"))
    assert tatl.parent is not None and long.recipe.epochs == 8
    assert dataclasses.replace(long, start="source", recipe=source.recipe) == source  # alike in all else
    random = [dataclasses.replace(run, source="random", parent=None) for run in (long, source)]
    tasks = [Segmentation(dataclasses.replace(run, start="source-long"), toy_store, tmp_path) for run in random]
    stage2 = Segmentation(
        dataclasses.replace(tatl.parent, source="random", start="random", parent=None), toy_store, tmp_path
    )
    steps = [len(task.batches(0)) for task in (*tasks, stage2)]
    assert steps[0] == steps[1] == steps[2]  # an epoch has as many steps in either stage: 8 of them are 5 and 3
    assert all(np.array_equal(tasks[0].batches(epoch), tasks[1].batches(epoch)) for epoch in range(3))
    rows = {m.variant: m.run for m in STUDIES["variants"].members(asked, Asked("stage3,stage3-long,stage13-long"))}
    assert set(rows) == {"stage3", "stage3-long", "stage13-long"}
    disc = {
        m.variant: m.run
        for m in STUDIES["variants"].members(asked, Asked("stage3-long,stage13-long"))
        if m.attribute == "disc"
    }
    assert disc["stage3-long"] == long and disc["stage13-long"].cropper is not None
    assert disc["stage13-long"].recipe == long.recipe and disc["stage13-long"].start == "source-long"
    with pytest.raises(ValueError, match="stage3-long has no Stage 2"):
        STUDIES["variants"].members(planner(toy_store, freeze_encoder=True), Asked("stage3-long"))


def test_tables_say_how_long_was_trained(toy_store: Store, tmp_path: Path) -> None:
    """Of fake histories: 3 epochs after 5 of Stage 2, and 8 at once; `dot` is in no validation image of some fold."""
    asked = planner(toy_store, epochs=3, agnostic_epochs=5, batch=4, attributes="disc,dot")
    members = [member for member in STUDIES["paradigms"].members(asked, Asked("tatl,source,source-long"))]
    for run in in_order(member.run for member in members):
        run.folder(tmp_path).mkdir(parents=True)
        frame = pd.DataFrame({"epoch": 0, "step": range(10 * run.recipe.epochs + 1), "split": "train", "loss": 0.5})
        frame.to_csv(run.folder(tmp_path) / "history.csv")
    table = training_of(members, tmp_path, toy_store).query("attribute == 'disc' and shape == 'mean'")
    table = table.set_index("variant")
    assert table["steps"].to_dict() == {"tatl": 30, "source": 30, "source-long": 80}
    assert table["steps_in_all"].to_dict() == {"tatl": 80, "source": 30, "source-long": 80}
    assert table["images_seen"].tolist() == [120, 120, 320] and table["images_in_all"].tolist() == [320, 120, 320]
    every = training_of(members, tmp_path, toy_store).query("variant == 'tatl' and shape == 'link'")
    every = every.set_index("attribute")["epoch_on_training"]
    validation = split(toy_store, 0, 3).validation
    for name in ("disc", "dot"):
        assert every[name] == (not toy_store.present(name)[validation].any())
    assert every["average"] == every[["disc", "dot"]].mean()


def test_studies_share_their_runs(toy_store: Store) -> None:
    variants = {m.run for m in STUDIES["variants"].members(planner(toy_store), Asked())}
    paradigms = {m.run for m in STUDIES["paradigms"].members(planner(toy_store), Asked())}
    assert len(variants & paradigms) == 3 * 3  # stage3, stage23 and stage123 of three attributes
    one = in_order([*variants, *paradigms])
    assert sum(run.task == "union" for run in one) == 3  # whole, crop, and crop from random weights


def test_data_sizes_are_nested_shares_with_their_own_agnostic_network(toy_store: Store) -> None:
    found = STUDIES["data-size"].members(planner(toy_store), Asked(fractions="60,100"))
    columns = {member.variant: member.kind for member in found}
    assert list(columns) == [f"{row} {f} %" for f in (100, 60) for row in ("tatl", "tatl-scratch", "source")]
    assert columns["tatl-scratch 60 %"] == {"start": "tatl-scratch", "fraction": 0.6}
    for member in found:
        kind = member.kind
        assert member.run.fraction == kind["fraction"]
        assert member.run.parent is None or member.run.parent.fraction in (kind["fraction"], 1.0)
        if kind["start"] == "tatl-scratch":
            assert member.run.parent.source == member.run.source == "random"  # type: ignore[union-attr]


def test_shares_of_data_can_have_controls(toy_store: Store) -> None:
    found = STUDIES["data-size"].members(planner(toy_store), Asked("tatl,source-long,multilabel", fractions="60"))
    tatl, longer, multilabel = {member.variant: member.run for member in found}.values()
    assert longer.recipe.epochs > tatl.recipe.epochs and longer.fraction == tatl.fraction == 0.6
    assert multilabel.parent is not None and multilabel.parent.fraction == 0.6


def test_names_on_the_command_line_are_those_of_the_studies() -> None:
    assert get_args(StudyName) == tuple(STUDIES)


def test_a_preset_may_change_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr("tatl.__main__.call", lambda _, asked: given.append(asked))
    assert main(["study", "data-size"]) == main(["study", "variants"]) == 0
    assert main(["study", "--folds", "1", "data-size", "--attributes", "disc", "--fractions", "50"]) == 0
    assert [(g.attributes, g.fractions) for g in given] == [("globules,streaks", "100,40"), ("", ""), ("disc", "50")]
    assert main(["train", "--variant", "stage3"]) == 0 and given[-1].attributes == ""


def test_winners_stand_beside_the_variants_where_asked_for(toy_store: Store) -> None:
    assert list(runs_of(toy_store, "variants")) == list(VARIANTS)
    found = STUDIES["variants"].members(planner(toy_store), Asked("stage3,isic2018-winner,isic2017-winner"))
    disc = [(m.variant, m.shape, m.run.shape, m.run.backbone) for m in found if m.attribute == "disc"]
    assert disc[0] == ("stage3", "link", "link", "efficientnet-b0")
    assert disc[1:5] == [("isic2018-winner", f"pyramid-{b}", "pyramid", b) for b in ISIC2018_WINNER]
    assert disc[5:] == [("isic2017-winner", "isic2017-winner-vgg16", "isic2017-winner", "vgg16")]


def test_crop_compares_lesion_networks_and_offsets(toy_store: Store, tmp_path: Path) -> None:
    found = runs_of(toy_store, "crop", Asked(offsets="0,3"))
    assert list(found) == [f"{network} {offset} px" for network in LESION_NETWORKS for offset in (0, 3)]
    for row, run in found.items():
        network, offset, _ = row.split()
        assert (run.cropper.shape, run.offset, run.start) == (network, int(offset), "source")
    assert len({run.cropper for run in found.values()}) == len(LESION_NETWORKS)  # one for all its offsets
    plain = found["unet 0 px"].cropper
    assert (plain.start, plain.source, plain.backbone, plain.parent) == ("random", "random", "plain", None)
    lesions = make_store(tmp_path / "lesions", unknown=("disc", "bar", "dot"))
    alone = STUDIES["crop"].members(planner(lesions), Asked(offsets="0", networks="u,segnet"))
    assert [(m.variant, m.attribute, m.run.task) for m in alone] == [(n, "lesion", "lesion") for n in ("u", "segnet")]
    with pytest.raises(ValueError, match="the study crop needs lesion masks"):
        runs_of(make_store(tmp_path / "none", lesions=False), "crop", Asked(offsets="0"))


class Named:
    """The toy's cases under other names of attributes, as many as are given: each is one of its three masks."""

    name, problems = "named", ()

    def __init__(self, attributes: tuple[str, ...]) -> None:
        self.toy, self.attributes = Toy(48, every=(2, 3, 4)), attributes
        self.ids, self.groups = self.toy.ids, self.toy.groups
        self.provenance = {**self.toy.provenance, "attributes": list(attributes)}

    def read(self, index: int, size: Size) -> Case:
        case = self.toy.read(index, size)
        drawn = list(case.attributes.values())
        return dataclasses.replace(case, attributes={name: drawn[k % 3] for k, name in enumerate(self.attributes)})


ISIC2017 = ("pigment_network", "negative_network", "milia_like_cyst", "streaks")


@pytest.mark.parametrize("names, count", [(ISIC2017, 600), ((*ISIC2017, "globules"), 750)])
def test_the_paper_s_backbones_are_600_networks_of_four_attributes(
    names: tuple[str, ...], count: int, tmp_path: Path
) -> None:
    """Table 8's number is of ISIC 2017's four: 5 backbones x 2 shapes x 3 starts x 5 folds x 4; 750 of 2018's five."""
    store = prepare(Named(names), tmp_path / "store", SIZE, workers=1, progress=False)
    settings, asked = Settings(**load_preset("paper", "backbones")[1]), Asked()
    found = STUDIES["backbones"].members(Planner(settings, store), asked)
    assert len(found) == len({member.run for member in found}) == count
    assert {member.kind["backbone"] for member in found} == set(BACKBONES)
    for member in found:
        kind = member.kind
        assert member.run.backbone == kind["backbone"] and member.run.start == kind["start"]
        assert (member.run.source, member.run.size) == ("imagenet", "32x64")
        assert (member.run.parent is None) == (kind["start"] == "source")
        assert member.run.parent is None or member.run.parent.backbone == kind["backbone"]


def test_convergence_scores_the_pretext_itself(toy_store: Store) -> None:
    found = STUDIES["convergence"].members(planner(toy_store), Asked())
    pretext = {m.run for m in found if m.variant == "pretext"}
    assert len(pretext) == 1 and next(iter(pretext)).task == "union"
    assert {m.run.parent for m in found if m.variant == "tatl"} == pretext


def test_pace_by_hand() -> None:
    keys = {"variant": "a", "shape": "u", "seed": 0, "fold": 0, "attribute": "disc"}
    losses = [(10, 0.9), (20, 0.5), (30, 0.2), (40, 0.25)]
    curve = pd.DataFrame([{**keys, "epoch": 0, "step": s, "split": "validation", "loss": v} for s, v in losses])
    row = pace(curve).iloc[0]
    assert (row["steps"], row["best"], row["steps_to_90"]) == (40, 0.8, 30)  # 0.72 is first reached at 30
    assert row["area"] == pytest.approx(((0.1 + 0.5) / 2 + (0.5 + 0.8) / 2 + (0.8 + 0.75) / 2) / 3)


def test_a_head_start_counts_and_a_low_plateau_is_not_fast() -> None:
    """From step 0 on: tatl is where source gets before its first step, random never gets there."""
    scores = {"source": [0.0, 0.3, 0.5, 0.6], "tatl": [0.55, 0.5, 0.6, 0.7], "random": [0.1, 0.1, 0.1, 0.1]}
    keys = {"shape": "u", "seed": 0, "fold": 0, "attribute": "dot", "split": "validation", "epoch": 0}
    made = [
        {**keys, "variant": name, "step": 10 * i, "loss": 1 - score}
        for name, values in scores.items()
        for i, score in enumerate(values)
    ]
    table = pace(pd.DataFrame(made)).set_index("variant")
    assert table["start"].tolist() == pytest.approx([0, 0.55, 0.1]) and table["best"].tolist() == pytest.approx(
        [0.6, 0.7, 0.1]
    )
    assert table["goal"].tolist() == pytest.approx([0.54] * 3)
    assert table["steps_to_goal"].tolist()[:2] == [30, 0] and np.isnan(table["steps_to_goal"]["random"])
    assert table["steps_to_90"].tolist() == [30, 30, 0]
    assert table["area"]["tatl"] == pytest.approx(((0.5 + 0.6) / 2 + (0.6 + 0.7) / 2) / 2)
    old = pace(pd.DataFrame([row for row in made if row["step"]])).set_index("variant")  # before there was a step 0
    assert old["start"].isna().all() and old["steps_to_goal"].tolist()[:2] == [30, 20]
    alone = pace(pd.DataFrame([row for row in made if row["variant"] == "tatl"])).iloc[0]
    assert np.isnan(alone["goal"]) and np.isnan(alone["steps_to_goal"])


def test_pace_of_losses_above_one_counts_the_best_step() -> None:
    keys = {"variant": "v", "shape": "u", "seed": 0, "fold": 0, "attribute": "dot", "split": "validation"}
    curve = pd.DataFrame([{**keys, "step": step, "loss": loss} for step, loss in ((5, 3.0), (10, 1.5), (15, 2.0))])
    row = pace(curve).iloc[0]
    assert row["best"] == -0.5 and row["steps_to_90"] == 10


def test_what_cannot_be_stops_before_training(tmp_path: Path, toy_store: Store) -> None:
    without = make_store(tmp_path / "idrid", lesions=False)
    assert set(runs_of(without, "paradigms")) == set(STARTS) - {"lesion", "stage123", "textures"}
    with pytest.raises(ValueError, match=r"lesion of paradigms needs lesion masks, unknown in all 24 .*--variants"):
        runs_of(without, "paradigms", Asked("tatl,lesion"))
    with pytest.raises(ValueError, match="variant best unknown: choose of tatl, tatl-freeze"):
        runs_of(toy_store, "paradigms", Asked("best"))
    for text in ("0", "101", "half"):
        with pytest.raises(ValueError, match=f"fractions '{text}' are percentages"):
            runs_of(toy_store, "data-size", Asked(fractions=text))


def test_a_share_that_leaves_no_positive_stops_before_training(tmp_path: Path) -> None:
    """`dot` in two images of 24: all groups have it in training, a tenth of them has not."""
    rare = make_store(tmp_path / "rare", every=(2, 3, 8))
    assert runs_of(rare, "data-size", Asked("tatl", fractions="100"))
    with pytest.raises(ValueError, match=r"10% of the training groups of fold 0 leave no image with .*dot: "):
        runs_of(rare, "data-size", Asked("tatl", fractions="100,10"))


def test_shuffled_masks_stay_in_their_part_and_belong_to_another_image(toy_store: Store) -> None:
    parts = split(toy_store, 0, 3)
    lender = shuffled(parts, len(toy_store), seed=0)
    for part in (parts.train, parts.validation, parts.test):
        assert sorted(lender[part]) == sorted(part) and (len(part) == 1 or (lender[part] != part).all())
    assert not np.array_equal(lender, shuffled(parts, len(toy_store), seed=1))
    indices = parts.train[:4]
    images, masks = Feed(toy_store, "union", lender=lender)(indices)
    own, others = Feed(toy_store, "union")(indices), Feed(toy_store, "union")(lender[indices])
    assert torch.equal(images, own[0]) and torch.equal(masks, others[1])


def test_the_control_starts_are_what_they_say(toy_store: Store, tmp_path: Path) -> None:
    task = make_task(toy_run(toy_store, "shuffled-union"), toy_store, tmp_path)
    assert isinstance(task, Segmentation) and task.labels == ("union",) and task.feed.lender is not None
    assert (task.positive == toy_store.present("union")[task.feed.lender[task.split.train]]).all()
    frozen = start_model(toy_run(toy_store, "disc", start="frozen-random"), tmp_path)
    assert not any(p.requires_grad for p in frozen.encoder.parameters())  # type: ignore[union-attr]
    assert all(p.requires_grad for p in frozen.decoder.parameters())  # type: ignore[union-attr]


def test_without_a_validation_positive_training_images_choose_the_epoch(toy_store: Store) -> None:
    parts, present = split(toy_store, 0, 3), toy_store.present("dot")
    assert np.array_equal(held(parts, np.ones(len(toy_store), bool)), parts.validation)
    rare = present & ~np.isin(np.arange(len(present)), parts.validation)
    chosen = held(parts, rare)
    assert set(chosen) <= set(parts.train) and len(chosen) == max(len(parts.validation), 2) and rare[chosen].any()
    assert not present[parts.validation].any()
    assert "dot: no early-stopping image of fold 0 has it; training images choose its epoch" in (
        planner_notes(planner(toy_store))
    )


def test_augmented_images_and_masks_move_together() -> None:
    """A white disc on black: wherever the mask went, the image is white; each pair by its own draw, repeatably."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    disc = (((y - 20) ** 2 + (x - 30) ** 2) < 100).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) / 255 for v in (MEAN, STD))
    images = ((disc.expand(3, -1, -1) - mean) / std).expand(6, -1, -1, -1)
    masks = disc.expand(6, 1, -1, -1)
    torch.manual_seed(3)
    seen, moved = augmented(images, masks)
    assert seen.shape == images.shape and moved.shape == masks.shape and set(moved.unique().tolist()) == {0.0, 1.0}
    grey = (seen * std + mean).mean(1, keepdim=True)
    for pair in range(6):
        inside, outside = grey[pair][moved[pair] == 1], grey[pair][moved[pair] == 0]
        assert inside.median() > 0.75 and outside.median() < 0.25
    assert len({moved[pair].numpy().tobytes() for pair in range(6)}) == 6
    torch.manual_seed(3)
    assert torch.equal(augmented(images, masks)[0], seen)


def test_a_study_from_plan_to_tables(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--store", str(toy_store.path), "--preset", "smoke", "--shape", "link", "--attribute", "disc"]
    words += ["--device", "cpu", "--batch", "4"]
    some = ["study", "paradigms", "--variants", "tatl,shuffled-union,augmentation,frozen-random", *words]
    assert main([*some, "--plan"]) == 0
    assert "6 runs: 0 are there, 6 to do" in capsys.readouterr().out and not Path("runs").exists()
    assert main(some) == 0
    made = Path("reports/toy-smoke/tables")
    table = pd.read_csv(made / "paradigms.csv")
    assert set(table["variant"]) == {"tatl", "shuffled-union", "augmentation", "frozen-random"}
    assert table.query("variant == 'augmentation'")["augment"].all() and "start" in table.columns
    assert json.loads((made / "paradigms.json").read_text())["study"] == "paradigms"
    effects = made / "paradigms_effects.csv"
    effects.write_text("of these runs\n")
    capsys.readouterr()
    assert main(some) == 0 and effects.is_file()
    assert main([word.replace(",augmentation", "") for word in some]) == 0 and not effects.exists()
    assert "paradigms_effects.csv was of other runs and is removed" in capsys.readouterr().out
    assert main(some) == 0
    capsys.readouterr()
    assert main(["study", "data-size", "--variants", "tatl", "--fractions", "100,50", *words, "--tables", "t"]) == 0
    assert "2 are there" in capsys.readouterr().out  # the agnostic network and the target of 100 %
    sizes = pd.read_csv("t/data-size_folds.csv")
    assert sorted(sizes["fraction"].unique()) == [0.5, 1.0] and set(sizes["start"]) == {"tatl"}
    for name, folder, words in (
        ("paradigms", made, list(table["variant"])),
        ("data-size", Path("t"), ["tatl", "50 %", "100 %"]),
    ):
        sections = page_of(name, folder)
        assert "<figure" in sections["average"] and "<table" in sections["table"]
        assert all(word in "".join(sections.values()) for word in words)


def page_of(name: str, folder: Path) -> dict[str, str]:
    """Every section of the page that reads a study's tables, as HTML, as its notebook makes them."""
    room, kind_name = ("", "Census") if name == "data" else ("studies.", name.title().replace("-", ""))
    kind = getattr(importlib.import_module(f"analysis.pages.{room}{name.replace('-', '_')}"), kind_name)
    return shown(kind.read(str(folder)), name)


@pytest.mark.parametrize(
    ("name", "words", "files"),
    [
        ("crop", ["--networks", "segnet", "--offsets", "2"], {"crop_lesion"}),
        ("convergence", ["--variants", "pretext,tatl"], {"convergence_curves", "convergence_pace"}),
        ("backbones", ["--backbones", "efficientnet-b0", "--variants", "source"], {"backbones_cost"}),
    ],
)
def test_studies_with_tables_of_their_own(
    name: str,
    words: list[str],
    files: set[str],
    toy_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--store", str(toy_store.path), "--preset", "smoke", "--shape", "link", "--attribute", "disc", *words]
    assert main(["study", name, *given, "--device", "cpu", "--batch", "4", "--tables", "t"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["tables are in t", f"next: python -m analysis.report --study {name} --tables t"]
    made = {path.stem for path in Path("t").glob("*.csv")}
    assert made == {"counts", name, f"{name}_folds", *files}
    images = pd.read_csv(f"t/{name}_images.csv.gz", dtype={"image": str, "group": str})
    assert set(images["group"]) <= set(toy_store.cases["group"].astype(str)) and set(images["shape"]) == {"mean"}
    table = pd.read_csv(f"t/{name}.csv").query("attribute == 'disc' and shape == 'mean'")
    assert len(table) == (2 if name == "convergence" else 1) and table["dice"].between(0, 1).all()
    if name == "crop":
        assert pd.read_csv("t/crop_lesion.csv")["network"].tolist() == ["segnet"]
    elif name == "backbones":
        cost = pd.read_csv("t/backbones_cost.csv")
        assert cost["frozen"].tolist() == [False, True] and (cost["parameters"] == 6_096_333).all()
        assert (cost["memory_mb"] > 0).all() and set(cost["size"]) == {"32x64"} and set(cost["batch"]) == {4}
    else:
        curves = pd.read_csv("t/convergence_curves.csv")
        assert set(curves["split"]) == {"validation"} and set(curves["variant"]) == {"pretext", "tatl"}
    for page, rows in {name: set(table["variant"]), "data": {"disc"}}.items():
        sections = page_of(page, Path("t"))
        assert all("<figure" in html or "<table" in html or "<p" in html for html in sections.values())
        whole = "".join(sections.values())
        assert all(row.split()[0] in whole for row in rows) and "toy" in whole and "24 cases" in whole
        assert "<table" in whole and ("<figure" in whole or "<svg" in whole)
        if page == name:
            assert f"{table['dice'].iloc[0]:.3f}".removeprefix("0") in whole


def test_a_failed_run_ends_the_study_with_its_name(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(run: Any, *given: Any, **options: Any) -> None:
        raise FloatingPointError("the loss is nan")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tatl.studies.execution.piece.fit", failing)
    words = ["study", "variants", "--variants", "stage23", "--store", str(toy_store.path), "--preset", "smoke"]
    words += ["--workers", "1"]  # processes of their own would not see the failing one
    assert main([*words, "--attribute", "disc", "--shapes", "link"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: 2 runs of study variants failed (union link random") and "the loss is nan" in said

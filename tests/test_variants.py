"""The five variants as runs: what each starts from, what they share, and what stops before any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tatl.data.folds import split
from tatl.data.store import Store
from tatl.names import VARIANTS
from tatl.run import Run, in_order
from tatl.run.hub import hub_weights
from tatl.studies.planner import STAGES_OF, Planner
from tatl.studies.settings import Settings
from tatl.studies.write import planner_notes
from toy import make_store

FIVE = ("stage3", "stage23", "stage13", "stage123", "stage123-scratch")


def planner(store: Store, **values: Any) -> Planner:
    given = {"shapes": "u,link", "source": "textures", "folds": "0", "n_folds": 3, "offset": 4, **values}
    return Planner(Settings(**given), store)


def target(store: Store, variant: str, **values: Any) -> Run:
    plan = planner(store, **values)
    return plan.started(plan.start_of(STAGES_OF[variant]), STAGES_OF[variant], "dot", "link", 0, 0)


def test_the_variants_are_the_paper_s() -> None:
    assert tuple(VARIANTS) == FIVE


def test_stage3_is_the_target_alone(toy_store: Store) -> None:
    run = target(toy_store, "stage3")
    assert (run.start, run.source, run.cropper, run.offset) == ("source", "textures", None, 0)
    assert run.parent is not None and run.parent.task == "textures"


def test_stage23_starts_from_the_union_of_the_whole_image(toy_store: Store) -> None:
    run = target(toy_store, "stage23")
    assert run.start == "tatl" and run.cropper is None and run.parent is not None
    assert (run.parent.task, run.parent.shape, run.parent.start, run.parent.cropper) == (
        "union",
        "link",
        "source",
        None,
    )


def test_stage13_crops_and_does_not_start_from_the_union(toy_store: Store) -> None:
    run = target(toy_store, "stage13")
    assert run.start == "source" and run.offset == 4
    assert run.cropper is not None and run.cropper.task == "lesion" and run.cropper.cropper is None


def test_stage123_is_all_of_it_on_one_crop(toy_store: Store) -> None:
    run = target(toy_store, "stage123")
    assert run.start == "tatl" and run.parent is not None and run.cropper is not None
    assert run.parent.task == "union" and run.parent.cropper == run.cropper and run.parent.offset == run.offset == 4


def test_scratch_never_touches_a_source_domain(toy_store: Store) -> None:
    run = target(toy_store, "stage123-scratch")
    assert {needed.source for needed in (*run.needs(), run)} == {"random"}
    assert {needed.task for needed in run.needs()} == {"lesion", "union"}
    assert [needed.start for needed in run.needs()] == ["random", "random"]


def test_freezing_changes_the_targets_of_agnostic_variants_only(toy_store: Store) -> None:
    for variant, start in (("stage3", "source"), ("stage23", "tatl-freeze"), ("stage123", "tatl-freeze")):
        frozen, free = (target(toy_store, variant, freeze_encoder=f) for f in (True, False))
        assert frozen.start == start
        assert frozen.parent == free.parent and frozen.cropper == free.cropper


def test_needed_runs_of_a_target_share_its_fold_seed_and_fraction(toy_store: Store) -> None:
    """Stage 1 and 2 never see the test fold of Stage 3."""
    plan = planner(toy_store, folds="2", seeds="7,", fraction=0.5)
    for member in plan.members(FIVE):
        for run in (*member.run.needs(), member.run):
            assert run.task == "textures" or (run.fold, run.seed, run.fraction, run.n_folds) == (2, 7, 0.5, 3)


def test_shared_runs_are_trained_once_and_needed_ones_first(toy_store: Store) -> None:
    """Five variants, two shapes, three attributes: 1 source, 2 Stage 1, 3 x 2 Stage 2, 5 x 2 x 3 targets."""
    runs = in_order(m.run for m in planner(toy_store).members(FIVE))
    tasks = [run.task for run in runs]
    assert len(runs) == len(set(runs)) == 1 + 2 + 6 + 30
    assert (tasks.count("textures"), tasks.count("lesion"), tasks.count("union")) == (1, 2, 6)
    for at, run in enumerate(runs):
        assert all(runs.index(needed) < at for needed in run.needs())


def test_from_random_weights_scratch_is_the_same_variant(toy_store: Store) -> None:
    members = planner(toy_store, source="random").members(("stage123", "stage123-scratch"))
    half = len(members) // 2
    assert [m.run for m in members[:half]] == [m.run for m in members[half:]]


def test_members_are_every_fold_seed_variant_attribute_and_shape(toy_store: Store) -> None:
    members = planner(toy_store, folds="0,2", seeds="0,1").members(["stage3", "stage13"])
    keys = {(m.variant, m.shape, m.seed, m.fold, m.attribute) for m in members}
    assert len(keys) == len(members) == 2 * 2 * 2 * 2 * 3
    assert all(
        (m.run.shape, m.run.seed, m.run.fold, m.run.task) == (m.shape, m.seed, m.fold, m.attribute) for m in members
    )


def test_stage_1_alone(toy_store: Store) -> None:
    (member,) = planner(toy_store).members(["stage1"])
    assert (member.attribute, member.run.task, member.run.shape) == ("lesion", "lesion", "u")


def test_a_lesion_less_store_refuses_crops_before_training(tmp_path: Path) -> None:
    store = make_store(tmp_path / "idrid", lesions=False)
    plan = planner(store)
    for variant in ("stage13", "stage123", "stage123-scratch", "stage1"):
        with pytest.raises(ValueError, match=f"Stage 1 of {variant} needs lesion masks, unknown in all 24 images of "
                                             "store 'idrid': choose --variants stage3,stage23"):  # fmt: skip
            plan.members([variant])
    assert len(plan.members(["stage3", "stage23"])) == 12


def test_an_attribute_known_in_some_images_is_trained_and_noted(tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy", partly=("bar",))
    plan = planner(store)
    assert {member.attribute for member in plan.members(["stage3", "stage23"])} == {"disc", "bar", "dot"}
    said = [note for note in planner_notes(plan) if "unknown" in note]
    assert [note.partition(": unknown in 12 of 24 images")[0] for note in said] == ["bar", "union"]


def test_an_attribute_known_in_no_test_image_is_not_trained(tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy")
    test = split(store, 0, 3).test
    store.cases.loc[test, "bar"] = "unknown"
    plan = planner(store)
    assert "bar" not in plan.trainable(0) and "disc" in plan.trainable(0)
    assert "bar: it is unknown in all test images of fold 0; not measured" in planner_notes(plan)
    store.cases.loc[:, "bar"] = "unknown"
    store.cases.loc[test, "bar"] = "present"
    with pytest.raises(ValueError, match="Stage 2 of stage23 needs union masks, and no training image of fold 0 has"):
        plan.members(["stage23"])


def test_an_unknown_attribute_mask_refuses_its_target_and_stage_2(tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy", unknown=("bar",))
    with pytest.raises(ValueError, match="the target of bar in stage3 needs bar masks, unknown in all 24"):
        planner(store).members(["stage3"])
    chosen = planner(store, attributes="disc,dot")
    assert len(chosen.members(["stage3", "stage13"])) == 8
    with pytest.raises(ValueError, match="Stage 2 of stage23 needs union masks, unknown in all 24"):
        chosen.members(["stage3", "stage23"])


def test_an_attribute_without_positives_is_left_out_and_noted(tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy", every=(2, 3, 0))
    plan = planner(store)
    assert {m.attribute for m in plan.members(["stage3"])} == {"disc", "bar"}
    assert any(note.startswith("dot: no training image of fold 0 has it") for note in planner_notes(plan))
    with pytest.raises(ValueError, match="no training image of store 'toy' has any of dot: choose other --attributes"):
        planner(store, attributes="dot").members(["stage3"])


def test_scarce_attributes_are_noted(tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy", cases=30, every=(2, 3, 11))
    first, *others = planner_notes(planner(store))
    assert first.startswith("dot: 2 groups have it, fewer than the 3 folds")
    assert all(note.startswith("dot: no ") for note in others)
    assert planner_notes(planner(store, attributes="disc")) == []


def test_a_fold_s_own_gaps_are_noted(tmp_path: Path) -> None:
    store = make_store(tmp_path / "toy", cases=30, every=(2, 3, 11))
    seen = [planner_notes(planner(store, attributes="dot", folds=str(fold)))[1:] for fold in range(3)]
    for fold, notes in enumerate(seen):
        parts, present = split(store, fold, 3), store.present("dot")
        gaps = {name: not present[getattr(parts, name)].any() for name in ("validation", "test")}
        assert any("no early-stopping image" in note for note in notes) == gaps["validation"]
        assert any("no test image" in note for note in notes) == gaps["test"]
    assert any(seen)


def test_unknown_names_are_refused(toy_store: Store) -> None:
    with pytest.raises(ValueError, match="store 'toy' has no attribute stripe: it has disc, bar, dot"):
        planner(toy_store, attributes="disc,stripe")
    with pytest.raises(ValueError, match=r"variant stage4 unknown: choose of stage3, stage23, .*stage1$"):
        planner(toy_store).members(["stage3", "stage4"])
    with pytest.raises(ValueError, match="freeze_encoder keeps Stage 2's encoder, and stage3, stage13 has no Stage 2"):
        planner(toy_store, freeze_encoder=True).members(["stage3", "stage13"])


def test_a_file_of_imagenet_weights_is_part_of_the_identity(toy_store: Store, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    settings = Settings(source="imagenet", n_folds=3)
    run = Planner(settings, toy_store, tmp_path / "weights.pth").lesion(0, 0)
    assert len(run.weights) == 12 and run.parent is None
    assert run.hash != Planner(settings, toy_store).lesion(0, 0).hash
    assert Planner(settings, toy_store, tmp_path / "weights.pth").lesion(0, 0, scratch=True).weights == ""
    with pytest.raises(ValueError, match="weights are given and the source is textures: add --source imagenet"):
        Planner(Settings(source="textures"), toy_store, tmp_path / "weights.pth")


def test_a_run_says_in_which_precision_the_device_trains_it(
    toy_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU's network and a GPU's are two, unless the precision is given; that of textures is the device's."""
    settings = Settings(source="textures", n_folds=3)
    cpu = Planner(settings, toy_store, device="cpu").lesion(0, 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu = Planner(settings, toy_store).but(fraction=0.5).but(fraction=1.0).lesion(0, 0)
    assert [run.recipe.precision for run in (cpu, *cpu.needs(), gpu, *gpu.needs())] == ["32", "32", "bf16", "bf16"]
    assert Planner(settings, toy_store, device="cpu").lesion(0, 0) == cpu != gpu
    given = Planner(replace(settings, precision="32"), toy_store).lesion(0, 0)
    assert [run.recipe.precision for run in (given, *given.needs())] == ["32", "bf16"]
    with pytest.raises(ValueError, match="precision 16 unknown: choose of auto, 32, bf16"):
        Settings(precision="16")


def test_a_run_says_which_weights_of_the_hub_it_starts_from(toy_store: Store) -> None:
    names = {
        backbone: Planner(Settings(n_folds=3, backbone=backbone), toy_store).lesion(0, 0).weights
        for backbone in ("efficientnet-b0", "resnet34", "tu-resnet18.a1_in1k", "tu-resnet18.a2_in1k")
    }
    assert names == {name: hub_weights(name) for name in names} and len(set(names.values())) == 4

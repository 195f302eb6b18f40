"""What `python -m tatl study` does: plan a comparison, train what it needs, and write its tables."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tatl.data.case import Size
from tatl.data.store import Store
from tatl.names import B0, RIVALS, TEXTURES
from tatl.run import Run, finished, in_order, outdated, trained
from tatl.studies.catalogue import STUDIES, Asked
from tatl.studies.execution.machine import Machine
from tatl.studies.planner import Member, Planner
from tatl.studies.runtime.effort import network_count, seconds
from tatl.studies.runtime.effort import plan as plan_of
from tatl.studies.settings import beyond_preset

RULED = {  # settings that the rows of a study differ in, and the options that choose among these
    "crop": {"offset": "--offsets", "lesion_network": "--networks"},
    "backbones": {"backbone": "--backbones"},
    "data-size": {"fraction": "--fractions"},
}


@dataclass(frozen=True)
class Experiment:
    """A study asked for: its name and rows, where its runs and tables are, and what trains it."""

    name: str
    planner: Planner
    asked: Asked
    preset: str
    runs: Path
    tables: Path
    machine: Machine

    def plan(self) -> None:
        """Say what would be trained."""
        members = self._members()
        print(f"study {self.name} ({STUDIES[self.name].paper}): {len(members)} target segmenters")
        needed = [member.run for member in members]
        show_plan(needed, self.runs, self.planner.store, self.machine.device, **devices_of(self.machine))

    def carry_out(self) -> None:
        """Train what is not there and write the tables; RuntimeError names the runs that failed.

        ValueError or RuntimeError before any training where something that the rows need is not there.
        """
        from tatl.studies.execution.schedule import execute
        from tatl.studies.write import provenance, write_tables

        started, members = time.monotonic(), self._members()
        needed = [member.run for member in members]
        check_sources(needed, self.runs, self.machine.imagenet_weights)
        note_runs(needed, self.runs)
        failures = execute(needed, self.runs, self.planner.store, self.machine, keep_going=True)
        if failures:
            listed = "; ".join(f"{failure.run.title()}: {failure.reason}" for failure in failures[:5])
            what = f"{len(failures)} runs of study {self.name} failed ({listed})"
            raise RuntimeError(f"{what}: mend the cause and give the same command again, which tries them again")
        shown = list(dict.fromkeys(member.variant for member in members))
        settings, store = self.planner.settings, self.planner.store
        described = provenance(self.name, self.preset, settings, store, self.planner, shown, self.runs)
        trained = sum(seconds(run, self.runs) for run in in_order(needed))
        described["asked"] = {name: words for name, words in vars(self.asked).items() if words}
        described |= {"seconds": round(time.monotonic() - started, 1), "training_seconds": round(trained, 1)}
        write_tables(self.name, members, self.runs, store, self.tables, described, self.machine.device)
        for note in described["notes"]:
            print(f"note: {note}")
        print(f"tables are in {self.tables}")
        print(f"next: {report_of(self.name, self.tables)}")

    def _members(self) -> list[Member]:
        """What is compared, at least one; ValueError for settings that the rows themselves decide."""
        changed = beyond_preset(self.planner.settings, self.preset, self.name)
        for setting, option in RULED.get(self.name, {}).items():
            if setting in changed:
                what = f"{setting} {changed[setting]} is what the rows of {self.name} differ in"
                raise ValueError(f"{what}: give {option}")
        if self.planner.settings.freeze_encoder and self.name != "variants":
            what = "freeze_encoder is of the study variants"
            raise ValueError(f"{what}: in {self.name} the rows say what is frozen (tatl-freeze)")
        members = STUDIES[self.name].members(self.planner, self.asked)
        if not members:
            lacking = f"no training image of store {self.planner.store.name!r} has any of"
            remedy = f"{', '.join(self.planner.attributes)}: choose other --attributes"
            raise ValueError(f"study {self.name} has no row: {lacking} {remedy}")
        return members


def report_of(name: str, tables: Path) -> str:
    """The command that shows the tables of a study."""
    return f"python -m analysis.report {shlex.join(['--study', name.replace('-', '_'), '--tables', str(tables)])}"


def check_runs(runs: Iterable[Run]) -> None:
    """ValueError for an unknown backbone or shape, and for an offset by which every crop would be the whole image."""
    ordered = in_order(runs)
    for shape, backbone in dict.fromkeys((run.shape, run.backbone) for run in ordered if run.shape not in RIVALS):
        network_count(shape, backbone)  # which builds what it does not know
    for run in ordered:
        if run.cropper is not None and run.offset >= min(Size.parse(run.size)):
            what = f"offset {run.offset} is larger than the images of {run.size}"
            raise ValueError(f"{what}: give smaller --offset or --offsets")


def devices_of(machine: Machine) -> dict[str, Any]:
    """The kind and number of devices of the cluster that trains, as a plan takes them; empty where none does."""
    if not machine.cluster.on:
        return {}
    from tatl.studies.execution.on_ray import size_of

    return size_of(machine.cluster, machine.device)


def show_plan(runs: Iterable[Run], root: Path, store: Store, device: str = "auto", **on: Any) -> None:
    """Say what training these would take, here and `on` other devices, and list them; nothing is trained or written."""
    needed = list(runs)
    check_runs(needed)
    print(plan_of(needed, root, store, device, **on).words())
    note_runs(needed, root)


def note_runs(runs: Iterable[Run], root: Path) -> None:
    """Say which finished runs no longer count, and where the runs of a store so far are all of other backbones."""
    ordered = in_order(runs)
    for said in outdated(ordered, root):
        print(f"note: {said}")
    asked = {run.backbone: run.store for run in ordered if run.task != TEXTURES and run.shape not in RIVALS}
    for store in set(asked.values()):
        there = {json.loads(path.read_text(encoding="utf-8")).get("backbone", B0) for path in _one_a_kind(root / store)}
        if there and not there & asked.keys():
            what = f"the runs of {store} so far have the backbone {', '.join(sorted(there))}"
            print(f"note: {what}, and these train {', '.join(asked)}: give --backbone to go on with those")


def _one_a_kind(store: Path) -> Iterable[Path]:
    """The run.json of a finished run of each kind (task, shape, backbone and start) but of rivals', which have none."""
    whole = [path for path in store.glob("*/*/*/run.json") if trained(path.parent)]
    return {path.parent.parent: path for path in whole if path.parts[-3].partition("-")[0] not in RIVALS}.values()


def check_sources(runs: Iterable[Run], root: Path, imagenet_weights: Path | None) -> None:
    """As `check_runs`, and whether what unfinished runs start from can be had, so that nothing is trained in vain.

    ValueError for a file that is another's or one of several backbones'; RuntimeError where ImageNet weights are
    neither in a cache nor to be downloaded.
    """
    todo = [run for run in in_order(runs) if not finished(run, root)]
    check_runs(todo)
    sources = list(dict.fromkeys(run.backbone for run in todo if run.source == "imagenet" and run.parent is None))
    if imagenet_weights and imagenet_weights.is_file() and len(sources) > 1:
        what = f"{imagenet_weights} holds the weights of one backbone and those of {', '.join(sources)} are needed"
        raise ValueError(f"{what}: give a folder of <backbone>.pth or .safetensors, or leave --imagenet-weights out")
    if not sources:
        return
    from tatl.models.imagenet import imagenet_encoder

    for backbone in sources:
        imagenet_encoder(backbone, imagenet_weights)

"""What the commands of `python -m tatl` do, as plain functions; the command line is generated from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tatl import cli
from tatl.data.case import Size
from tatl.data.images.reading import Reading
from tatl.names import LESION, STAGE1, UNION
from tatl.studies.settings import Asked, Cluster, Settings, StudyName, Where
from tatl.training.writers import Log

# torch, Lightning and pandas take seconds to import: the functions import what needs them, so that --help does not.
if cli.MYPY:
    from tatl.data.store import Store
    from tatl.run import Run


def prepare_command(
    reading: Reading,
    data: Literal["isic2018", "isic2017", "manifest", "labels", "coco", "phantom"],
    store: Path,
    root: Path | None = None,
    size: str = "384x512",
    split: str = "",
    cases: int = 2594,
    seed: int = 0,
    enrich: bool = False,
    skip_bad: bool = False,
    workers: int = 0,
    labels: Path | None = None,
    annotations: Path | None = None,
) -> None:
    """Decode images and masks once into a memory-mapped store.

    Example: python -m tatl prepare --data isic2018 --root ISIC2018 --store stores/isic2018 --size 384x512

    Args:
        data: what to read: the official ISIC folders, a folder with a cases.csv (manifest; the cell of an attribute is
            its mask, empty where it is absent, ? where nobody looked for it), one label image a case (labels), a COCO
            file, or the drawn phantom
        store: folder to write; a store that was stopped half-way is continued
        root: folder of the data; not for the phantom
        size: HEIGHTxWIDTH in pixels to which images and masks are reduced
        split: of ISIC data, only Training, Validation or Test (Test_v2 in 2017); empty: all with masks
        cases: number of phantom cases
        seed: seed of the phantom
        enrich: raise the phantom's rare attributes above their real frequencies
        skip_bad: leave bad cases out, listed in store.json, instead of stopping with their list
        workers: processes that decode; 0: one a core
        labels: of label images, the YAML that says which colour or index is what; else labels.yaml of the root
        annotations: of COCO, the .json file; else the only one in the root
    """
    from tatl.data.prepare.problems import by_kind
    from tatl.data.readers import reader
    from tatl.data.store import counts, prepare

    drawn: dict[str, Any] = {"cases": cases, "seed": seed, "enrich": enrich}
    files: dict[str, Any] = {"split": split or None, "labels": labels, "annotations": annotations}
    source = reader(data, root, reading=reading, **files, **drawn)
    made = prepare(source, store, Size.parse(size), workers=workers or None, skip_bad=skip_bad)
    print(counts(made).to_string(index=False))
    for line in [*by_kind(made.notes), *_nowhere(made)]:
        print(f"note: {line}")
    print(f"{made.path}: {len(made)} cases of {made.size}" + (f", {len(made.skipped)} skipped" if made.skipped else ""))
    print(f"next: {_next_of(made)}")


def train_command(place: Where, settings: Settings, variant: str, plan: bool = False, log: Log = "csv") -> None:
    """Train every network of one variant and print its scores.

    Example: python -m tatl train --variant stage123 --store stores/isic2018 --preset paper --folds 0

    Args:
        variant: stage3, stage23, stage13, stage123, stage123-scratch, or stage1 (the lesion network alone)
        plan: list what would be trained, how long it may take and its size on disk, and train and write nothing
        log: tensorboard: losses also as what `tensorboard --logdir RUNS` shows; csv: in each run's history.csv alone
    """
    from tatl.studies.conduct import check_sources, note_runs, show_plan
    from tatl.studies.planner import Planner

    planner, runs = Planner.of(settings, place, write=not plan), place.runs
    members, store = planner.members([variant]), planner.store
    needed = [member.run for member in members]
    if plan:
        return show_plan(needed, runs, store, place.device)
    from tatl.studies.execution.machine import Machine
    from tatl.studies.execution.schedule import execute
    from tatl.studies.results import lost_notes, over_folds, per_fold, scores_of
    from tatl.studies.write import averages, planner_notes

    check_sources(needed, runs, place.imagenet_weights)
    note_runs(needed, runs)
    execute(needed, runs, store, Machine(place.device, place.imagenet_weights, log=log))
    print(averages(over_folds(per_fold(scores_of(members, runs, store))), every=True))
    for note in lost_notes(members, runs) + (planner_notes(planner) if variant != STAGE1 else []):
        print(f"note: {note}")
    print(f"runs are in {runs / store.name}")
    print(f"next: {_predict_with(members[0].run, runs, store)}")


def study_command(
    place: Where,
    asked: Asked,
    cluster: Cluster,
    settings: Settings,
    name: StudyName,
    tables: Path | None = None,
    plan: bool = False,
    workers: int = 0,
) -> None:
    """Train what a comparison needs and write its tables.

    Example: python -m tatl study variants --store stores/isic2018 --preset paper

    Args:
        name: which study: variants (Tables 3, 4, A.10-A.13), paradigms (Table 9, with controls), crop (Table 5),
            backbones (Tables 6-8, and what each network costs), data-size (Figure 4) or convergence (Figures 5, 6)
        tables: folder for the tables; default reports/<preset>/tables, or with a store reports/<store>-<preset>/tables
        plan: list what would be trained, how long it may take and its size on disk, and train and write nothing
        workers: runs trained at once, each in a process of its own; 0: one per GPU, or two on a CPU, one per four of
            its cores where it has more than eight
    """
    from tatl.studies.conduct import Experiment
    from tatl.studies.execution.machine import Machine
    from tatl.studies.places import tables_of
    from tatl.studies.planner import Planner

    if cluster.on and place.store is None:  # what cannot be had is refused before a phantom is prepared
        from tatl.studies.execution.on_ray import Connection

        Connection(cluster, place.device)
    planner, folder = Planner.of(settings, place, write=not plan), tables or tables_of(place.store, place.preset)
    machine = Machine(place.device, place.imagenet_weights, workers=workers, cluster=cluster)
    asked_for = Experiment(name, planner, asked, place.preset, place.runs, folder, machine)
    asked_for.plan() if plan else asked_for.carry_out()


def _predict_with(run: Run, runs: Path, store: Store) -> str:
    """The command that uses what was trained, of which one run is given."""
    from tatl.prediction.select import variant_of
    from tatl.studies.places import command_line

    told = {"runs": runs, "store": store.path, "variant": variant_of(run), "out": "predictions"}
    return command_line("predict IMAGE", told)


def _nowhere(store: Store) -> list[str]:
    """A note for every attribute that no image has, as a name or a level that is spelt wrongly may leave it."""
    empty = [name for name in store.attributes if not store.present(name).any()]
    return [f"no image {'has' if store.known(name).all() else 'is known to have'} {name}" for name in empty]


def _next_of(store: Store) -> str:
    """The command that a store is ready for: a study of the variants whose masks it has, or Stage 1 alone."""
    from tatl.studies.places import command_line

    if not store.attributes or not store.known(UNION).any():
        return command_line("train", {"variant": STAGE1, "store": store.path})
    whole = {} if store.known(LESION).any() else {"variants": "stage3,stage23"}
    return command_line("study variants", {"store": store.path, **whole})

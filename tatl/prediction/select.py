"""Which trained networks a prediction averages: the finished runs of one variant that share every setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tatl.data.store import Store
from tatl.names import LESION, LESION_NETWORKS, PRETEXTS, RIVALS, STAGE1, UNION, VARIANTS
from tatl.run import Run, find_runs, finished
from tatl.run.recipe import among
from tatl.studies.planner import STAGES_OF, Variant
from tatl.studies.settings import comma_list, comma_numbers

_VARYING = ("store", "task", "shape", "fold", "seed", "split_seed")
_STARTS = ("random", "source", "tatl", "tatl-freeze")  # of the variants
_USUAL: tuple[Callable[[Run], bool], ...] = (
    lambda run: run.source != "random",
    lambda run: run.shape in ("u", "link"),
    lambda run: not run.recipe.augment,
)
_STAGES = ("agnostic_", "lesion_")  # before the recipe's fields of Stage 2 and Stage 1


def variant_of(run: Run) -> str:
    """The variant of a target segmenter, by what it starts from and sees, or of the lesion network; else empty.

    Empty too for what starts from a rival or a control, which no variant does, and for the lesion as a pretext.
    Stages 1, 2 and 3 from random weights are the scratch variant, whatever was asked for when they were trained.
    """
    if run.task in (UNION, *PRETEXTS) or run.start not in _STARTS:
        return ""
    if run.task == LESION:
        return STAGE1 if run.shape in LESION_NETWORKS and run.cropper is None else ""
    if run.shape in RIVALS:
        return ""
    crop, agnostic = run.cropper is not None, run.parent is not None and run.parent.task == UNION
    like = Variant(crop, agnostic, scratch=crop and agnostic and run.source == "random")
    return next(name for name, variant in STAGES_OF.items() if variant == like)


def choose(root: Path, variant: str, store: str = "", folds: str = "", where: str = "") -> list[Run]:
    """The finished runs of a variant; `store` is a name or a path, `where` is FIELD=VALUE,... (`settings_of`).

    Where usual networks and others are left, as after studies that compare them, the usual ones are taken: not from
    random weights, not of a rival's shape, not augmented.
    FileNotFoundError where there are no runs, ValueError where a fold is not there, or several stores or settings are.
    """
    among("variant", [variant], (*VARIANTS, STAGE1))
    runs = _of_variant(root, variant, store)
    if len(stores := sorted(set({run.digest: run.store for run in runs}.values()))) > 1:
        raise ValueError(f"runs of several stores are there ({', '.join(stores)}): choose with --store {stores[0]}")
    runs = _matching(runs, where)
    for usual in _USUAL:
        runs = [run for run in runs if usual(run)] or runs
    _require_one_setting(runs, [name for name in _VARYING if (variant, name) != (STAGE1, "shape")])
    wanted = comma_numbers("folds", folds)
    if missing := sorted(set(wanted) - {run.fold for run in runs}):
        raise ValueError(f"no finished runs of {variant} for folds {missing}: leave --folds out to use all there are")
    return [run for run in runs if not wanted or run.fold in wanted]


def _of_variant(root: Path, variant: str, store: str) -> list[Run]:
    there = {run: path for run, path in find_runs(root) if variant_of(run)}
    name, digests = Path(store).resolve().name if store else "", _digests(store, there)
    runs = [run for run in there if variant_of(run) == variant and (not store or run.digest in digests)]
    if not runs:
        known = sorted({f"{variant_of(run)} on {run.store}" for run in there})
        what = f"{root} has no finished runs of {variant}{f' on store {name}' if store else ''}"
        there_are = f"(there are: {', '.join(known) or 'none'})"
        train = f"python -m tatl train --variant {variant}{f' --store {store}' if store else ''}"
        raise FileNotFoundError(f"{what} {there_are}: give --variant one of these, or train them with {train}")
    if misplaced := [run for run in runs if not finished(run, root)]:
        path = there[misplaced[0]]
        raise ValueError(f"{path} should be {misplaced[0].folder(root)}: give --runs {path.resolve().parents[3]}")
    return runs


def _digests(store: str, runs: Iterable[Run]) -> set[str]:
    """Of the store at a path, whatever its name was when its runs were trained, else of the stores of that name."""
    if store and (Path(store) / "store.json").is_file():
        return {Store.open(Path(store)).digest}
    return {run.digest for run in runs if store and run.store == Path(store).resolve().name}


def settings_of(run: Run) -> dict[str, str]:
    """Every plain field of a run and of its recipe, and as `agnostic_epochs` or `lesion_lr` those of Stage 2 and 1."""
    agnostic = run.parent if run.parent is not None and run.parent.task == UNION else None
    plain = {field.name: str(getattr(run, field.name)) for field in dataclasses.fields(run)}
    settings = {name: value for name, value in plain.items() if name not in ("parent", "cropper", "recipe")}
    if run.cropper is not None:
        settings["lesion_network"] = run.cropper.shape
    for stage, each in (("", run), ("agnostic_", agnostic), ("lesion_", run.cropper)):
        if each is not None:
            settings |= {stage + name: str(value) for name, value in dataclasses.asdict(each.recipe).items()}
    return settings


def _matching(runs: Sequence[Run], where: str) -> list[Run]:
    """The runs that have every FIELD=VALUE, values written as `settings_of` writes them."""
    left, known = list(runs), settings_of(runs[0])
    for pair in comma_list(where):
        field, equals, value = pair.partition("=")
        field = field.strip().replace("-", "_")
        if not equals or field not in known:
            raise ValueError(f"where {pair!r} is not FIELD=VALUE with a field of {', '.join(known)}")
        there = sorted({settings_of(run)[field] for run in left})
        if value.strip() not in there:
            raise ValueError(f"no runs are there where {pair}: choose {field} of {', '.join(there)}")
        left = [run for run in left if settings_of(run)[field] == value.strip()]
    return left


def _require_one_setting(runs: Sequence[Run], varying: Sequence[str]) -> None:
    settings = [settings_of(run) for run in runs]
    values = {name: sorted({each[name] for each in settings}) for name in settings[0] if name not in varying}
    differing = {name: found for name, found in values.items() if len(found) > 1}
    followed = {stage + name for stage in _STAGES for name in differing}  # the target's field, which says it already
    if differing := {name: found for name, found in differing.items() if name not in followed}:
        shown = "; ".join(f"{name}: {', '.join(found)}" for name, found in differing.items())
        example = ",".join(f"{name}={found[0]}" for name, found in differing.items())
        raise ValueError(f"runs of several settings are there ({shown}): choose with --where {example}")


def parts(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Chosen runs by the mask that they find, and before them what they rest on: Stage 1 (lesion), Stage 2 (union)."""
    stage1 = [run if run.task == LESION else run.cropper for run in runs]
    stage2 = [run.parent for run in runs if run.parent is not None and run.parent.task == UNION]
    found = {LESION: [run for run in dict.fromkeys(stage1) if run is not None], UNION: list(dict.fromkeys(stage2))}
    for run in runs:
        if run.task != LESION:
            found.setdefault(run.task, []).append(run)
    return {name: each for name, each in found.items() if each}


def network_notes(runs: Sequence[Run]) -> list[str]:
    """For people: what is averaged, and which attributes have fewer networks than the others."""
    first, folds = runs[0], sorted({run.fold for run in runs})
    counted = ", ".join(f"{name} {len(each)}" for name, each in parts(runs).items())
    where = f"store {first.store}, source {first.source}, folds {', '.join(map(str, folds))} of {first.n_folds}"
    lines = [f"{where}, networks: {counted}"]
    if first.task == LESION:
        lines.append("note: boxes of stage1 lie tight round the lesion; variants that crop grow them by their offset")
    cover = {name: {(run.shape, run.fold, run.seeds) for run in runs if run.task == name} for name in parts(runs)}
    every = set().union(*cover.values())
    for name, there in cover.items():
        if name not in (LESION, UNION) and (lacking := sorted(every - there)):
            listed = ", ".join(f"{shape} fold {fold} {seeds}" for shape, fold, seeds in lacking[:5])
            lines.append(f"note: {name} has {len(there)} of {len(every)} networks (first missing: {listed})")
    return lines

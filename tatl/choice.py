"""Which trained networks a prediction averages: the finished runs of one variant, alike in everything that matters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tatl.data.store import LESION, UNION
from tatl.pretext import TEXTURES
from tatl.run import Run, find_runs
from tatl.settings import numbers
from tatl.variants import STAGE1, VARIANTS


def is_of(run: Run, variant: str) -> bool:
    """Whether this is a target segmenter (or the lesion network) of the variant, by what it starts from and sees."""
    if variant == STAGE1 or run.task in (LESION, UNION, TEXTURES):
        return variant == STAGE1 and run.task == LESION
    asked = VARIANTS[variant]
    agnostic = run.parent is not None and run.parent.task == UNION
    fits = (run.cropper is not None, agnostic) == (asked.crop, asked.agnostic)
    return fits and (run.source == "random" or not asked.scratch)


def choose(root: Path, variant: str, store: str = "", folds: str = "") -> dict[Run, Path]:
    """The finished runs of a variant, which differ in attribute, shape, fold and seed alone, and their folders.

    Random source weights are the scratch variant's, unless nothing else is there.  FileNotFoundError where there are
    no runs, ValueError where runs of several settings are there, or a fold is not.
    """
    if variant not in (*VARIANTS, STAGE1):
        raise ValueError(f"variant {variant!r} is unknown: choose of {', '.join((*VARIANTS, STAGE1))}")
    there = dict(find_runs(root))
    found = {run: path for run, path in there.items() if is_of(run, variant) and store in ("", run.store)}
    if not found:
        known = [name for name in (*VARIANTS, STAGE1) if any(is_of(run, name) for run in there)]
        raise FileNotFoundError(
            f"{root} has no finished runs of {variant}{f' on store {store}' if store else ''} "
            f"(there are: {', '.join(known) or 'none'}): train them with python -m tatl train --variant {variant}"
        )
    if not (variant in VARIANTS and VARIANTS[variant].scratch) and {run.source for run in found} != {"random"}:
        found = {run: path for run, path in found.items() if run.source != "random"}
    _require_one_setting(found)
    wanted = numbers("folds", folds)
    if missing := sorted(set(wanted) - {run.fold for run in found}):
        raise ValueError(f"no finished runs of {variant} for folds {missing}: leave --folds out to use all there are")
    return {run: path for run, path in found.items() if not wanted or run.fold in wanted}


def _setting(run: Run) -> dict[str, Any]:
    """What all networks of one prediction must share."""
    own = {f.name: getattr(run, f.name) for f in dataclasses.fields(run)}
    for name in ("task", "shape", "fold", "seed", "parent", "cropper"):
        own.pop(name)
    own["agnostic recipe"] = run.parent.recipe if run.parent else None
    own["lesion recipe"] = run.cropper.recipe if run.cropper else None
    return own


def _require_one_setting(runs: Iterable[Run]) -> None:
    settings = [_setting(run) for run in runs]
    differing = [name for name in settings[0] if len({str(each[name]) for each in settings}) > 1]
    if differing:
        shown = "; ".join(f"{name}: {', '.join(sorted({str(s[name]) for s in settings}))[:200]}" for name in differing)
        raise ValueError(f"runs of several settings are there ({shown}): choose with --store, or use another --runs")

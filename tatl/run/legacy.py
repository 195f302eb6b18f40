"""Runs that earlier versions wrote: how their run.json is read today, and which of them no longer count.

Format 1 had no partition of its own (the seed drew the folds too), kept the precision as it was asked for, and named
the file of ImageNet weights only where one was given.  What it meant by that is known: `modern` writes it out.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tatl.names import B0
from tatl.run.hub import hub_weights


class Outdated(ValueError):
    """A run that was trained as no version does any more: it is named, and not counted."""


def precision_of_log(log: str) -> str:
    """What "auto" was in format 1: "32" where every part of the training was on a CPU, else "bf16"."""
    places = re.findall(r"^[\d.]+ s in this process on (CPU,)?", log, re.MULTILINE)
    return "32" if places and all(places) else "bf16"


def log_in(folder: Path) -> str:
    """The text of a run's log, empty without one."""
    return path.read_text(encoding="utf-8") if (path := folder / "log").is_file() else ""


def _own_log(values: dict[str, Any], root: Path) -> str | None:
    """The log of the run of format 1 with these fields, in any store's folder under `root`; None: it is not there."""
    written = json.dumps({"format": 1, **values}, sort_keys=True)  # its folder was called by the hash of this
    pattern = f"*/{values.get('task', '')}/*/fold*-{hashlib.sha256(written.encode()).hexdigest()[:10]}"
    return next((log_in(folder) for folder in root.glob(pattern)), None)


def modern(values: dict[str, Any], log: str, root: Path | None = None) -> dict[str, Any]:
    """The fields of a run.json of format 1 as today's; `log` is the text beside it.

    What it rests on may have been trained on another machine: its own log counts where its folder is under `root`.
    Raises Outdated where the images were cut or augmented under bf16 autocast, which then moved their pixels.
    """
    values = dict(values)
    values["split_seed"] = values.get("seed", 0)
    recipe = values["recipe"] = dict(values.get("recipe", {}))
    if recipe.get("precision", "auto") == "auto":
        recipe["precision"] = precision_of_log(log)
    if recipe["precision"] == "bf16" and (values.get("cropper") or recipe.get("augment")):
        raise Outdated("bf16 cut or augmented its images, which distorted them then (or no log says float32)")
    if values.get("source", "imagenet") == "imagenet" and not values.get("weights"):
        values["weights"] = hub_weights(values.get("backbone", B0))
    for key in ("parent", "cropper"):
        if (there := values.get(key)) is not None:
            own = None if root is None else _own_log(there, root)
            values[key] = modern(there, log if own is None else own, root)
    return values

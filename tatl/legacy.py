"""Runs that earlier versions wrote: how their run.json is read today, and which of them no longer count.

Format 1 had no partition of its own (the seed drew the folds too), kept the precision as it was asked for, and named
the file of ImageNet weights only where one was given.  What it meant by that is known: `modern` writes it out.
"""

from __future__ import annotations

import re
from typing import Any


class Outdated(ValueError):
    """A run that was trained as no version does any more: it is named, and not counted."""


def precision_of_log(log: str) -> str:
    """What "auto" was in format 1: "32" where every part of the training was on a CPU, else "bf16"."""
    places = re.findall(r"^[\d.]+ s in this process on (CPU,)?", log, re.MULTILINE)
    return "32" if places and all(places) else "bf16"


def modern(values: dict[str, Any], log: str) -> dict[str, Any]:
    """The fields of a run.json of format 1 as today's; `log` is the text beside it.

    Raises Outdated where the images were cut or augmented under bf16 autocast, which then moved their pixels.
    """
    values = dict(values)
    values["split_seed"] = values.get("seed", 0)
    recipe = values["recipe"] = dict(values.get("recipe", {}))
    if recipe.get("precision", "auto") == "auto":
        recipe["precision"] = precision_of_log(log)
    if recipe["precision"] == "bf16" and (values.get("cropper") or recipe.get("augment")):
        raise Outdated(
            "its images were cut or augmented in bf16, which distorted them then (or no log says that it was float32)"
        )
    if values.get("source", "imagenet") == "imagenet" and not values.get("weights"):
        from tatl.inits import hub_weights  # torch takes seconds, and only runs of format 1 ask

        values["weights"] = hub_weights(values.get("backbone", "efficientnet-b0"))
    for key in ("parent", "cropper"):
        if values.get(key) is not None:
            values[key] = modern(values[key], log)
    return values

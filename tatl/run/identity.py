"""What of a run is its identity: the fields that a hash covers, and what a task means today."""

from __future__ import annotations

import dataclasses
from typing import Any

# What a task means: its number is raised when the same fields would train something else (a mended crop, say), and
# runs of a lower number are then named and trained again.  "target" is any attribute.
MEANING = {
    "lesion": 1, "union": 1, "target": 1, "rotation": 1, "context": 1, "shuffled-union": 1, "textures": 1,
}  # fmt: skip


def meaning(task: str) -> int:
    """The number of what a task means today."""
    return MEANING.get(task, MEANING["target"])


def _said(task: str | None) -> dict[str, int]:
    """The number where it is above 1."""
    return {"meaning": meaning(task)} if task is not None and meaning(task) > 1 else {}


def with_meaning(values: dict[str, Any]) -> dict[str, Any]:
    """A run's fields with the number of what its task means, where that is above 1, and so those of its parents."""
    found = {key: with_meaning(v) if key in ("parent", "cropper") and v else v for key, v in values.items()}
    return found | _said(values["task"])


def changed(thing: Any) -> dict[str, Any]:
    """The identity of a run or recipe: the fields that differ from their defaults, and the task's meaning above 1."""
    found = dict[str, Any]()
    for each in dataclasses.fields(thing):
        value = getattr(thing, each.name)
        usual = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        if each.compare and value != usual:
            found[each.name] = changed(value) if dataclasses.is_dataclass(value) else value
    return found | _said(getattr(thing, "task", None))


def check_keys(values: dict[str, Any], cls: type[Any]) -> None:
    """ValueError where a run.json has fields that the class lacks, or lacks one without a default."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := set(values) - set(fields):
        raise ValueError(f"run.json has unknown keys: {', '.join(sorted(unknown))}")
    needed = {n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
    if missing := needed - set(values):
        raise ValueError(f"run.json lacks {', '.join(sorted(missing))}: delete its folder and train again")

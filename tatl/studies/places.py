"""Where the stores of presets and the tables of stores lie, and command lines that name what was made before."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tatl.data.case import Size
from tatl.data.store import Store, prepare
from tatl.names import LESION, SKIN_ATTRIBUTES
from tatl.studies.settings import Settings, beyond_preset, load_preset


def tables_of(store: Path | None, preset: str) -> Path:
    """Where the tables of a store go, so that two stores do not overwrite each other's."""
    return Path("reports") / (preset if store is None else f"{store.resolve().name}-{preset}") / "tables"


def open_store(path: Path | None, preset: str, write: bool = True) -> Store:
    """The store at `path`, or the preset's phantom, made if it is not there; unless `write` it is only outlined."""
    if path is not None:
        return Store.open(path)
    place, data = Path("stores") / f"phantom-{preset}", load_preset(preset).data
    size = Size.parse(data.pop("size"))
    if not write and not (place / "store.json").is_file():
        return _Outline(place, size, data["cases"])
    from tatl.data.readers import reader  # a plan needs no decoder of images

    return prepare(reader("phantom", **data), place, size)


class _Outline(Store):
    """A phantom that is not drawn yet, by which runs are planned: every image is taken to show everything."""

    def __init__(self, path: Path, size: Size, cases: int) -> None:
        self.path, self.name, self.size, self.digest = path, path.name, size, ""
        self.attributes, self.source = SKIN_ATTRIBUTES, {"data": "phantom"}
        self.images = np.broadcast_to(np.uint8(0), (cases, *size, 3))
        number = [f"{each:07}" for each in range(cases)]
        self.cases = pd.DataFrame({"id": number, "group": number}).assign(
            height=size.height, width=size.width, **dict.fromkeys((LESION, *SKIN_ATTRIBUTES), "present")
        )


def command_line(command: str, options: Mapping[str, object]) -> str:
    """`python -m tatl <command>` with options, quoted as a shell needs it."""
    return f"python -m tatl {command} {shlex.join(w for k, v in options.items() for w in (f'--{k}', str(v)))}"


def command_like(command: str, about: Mapping[str, Any], tables: Path) -> str:
    """A plain command (`python -m tatl study crop`) with the options of the study that wrote `about`, into `tables`.

    `about` is what a study records beside its tables; where it is empty, the command keeps its defaults.  What it
    records takes the place of an option that the command has (`--store STORE`).
    """
    options = [*_options(about), f"--tables={tables}"]
    for option in options:
        command = re.sub(rf" {option.partition('=')[0]} \S+", "", command)
    return f"{command} {shlex.join(options)}"


def _options(about: Mapping[str, Any]) -> Iterator[str]:
    """What was asked other than by default: options that a preset gives alike are left out."""
    preset = str(about.get("preset", "quick"))
    usual = {"preset": "quick", "store": f"stores/phantom-{preset}", "runs": "runs"}
    yield from (f"--{name}={about[name]}" for name in usual if about.get(name, usual[name]) != usual[name])
    study, recorded = str(about.get("study", "")), about.get("settings", {})
    known = {name: value for name, value in recorded.items() if name in Settings.__dataclass_fields__}
    settings = Settings(**load_preset(preset, study).settings | known)
    for name, value in beyond_preset(settings, preset, study).items():
        yield f"--{name.replace('_', '-')}={str(value).lower() if isinstance(value, bool) else value}"

"""The command that makes more tables as those beside them were made: of the same store, preset, runs and settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tatl.studies.settings import Settings, beyond_preset, load_preset


def command_like(command: str, about: Mapping[str, Any], tables: Path) -> str:
    """A plain command (`python -m tatl study crop`) with the options of the study that wrote `about`, into `tables`.

    `about` is what a study records beside its tables; where it is empty, the command keeps its defaults.
    """
    return f"{command} {shlex.join([*_options(about), f'--tables={tables}'])}"


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

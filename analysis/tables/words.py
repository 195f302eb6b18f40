"""Words that a terminal and a page share: names and numbers in a sentence, and what data tables are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.tables.paper import Origin, part_of

_FROM = {"source": "source domain", "preset": "preset"}


def listed(names: Sequence[Any]) -> str:
    """a, b and c."""
    words = [str(name) for name in names]
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + words[-1:])


def plain(name: object) -> str:
    """pigment_network -> pigment network."""
    return str(name).replace("_", " ")


def counted(number: float, noun: str) -> str:
    """1 fold, 2 folds."""
    return f"{int(number)} {noun}{'' if number == 1 else 's'}"


def dataset(study: Origin) -> str:
    """phantom, 240 cases at 96x128, rare attributes enriched."""
    about = study.about
    name = study.data if study.data != "manifest" else about.get("store_name", "manifest")
    enriched = ", rare attributes enriched" if about.get("enrich") else ""
    cases, size = about.get("cases", "?"), about.get("size", "unknown size")
    return f"{about.get('label', name)}, {cases} cases at {size}{enriched}"


def measured_on(study: Origin, *facts: str) -> str:
    """Data, source domain, preset and further facts of measured numbers, and what the data are not."""
    words = [f"{name} {study.about.get(key, 'not recorded')}" for key, name in _FROM.items()]
    return " ".join([f"Measured: {'; '.join([dataset(study), *words, *facts])}.", *warnings(study)])


def warnings(study: Origin) -> list[str]:
    """What the data and the source domain are not."""
    part = part_of(study.data, study.about.get("cases"))
    said = [f"The store holds {part}."] if part else []
    if study.data == "phantom":
        said.append("The phantom is not skin.")
    if study.about.get("source") == "textures":
        said.append("textures is not ImageNet.")
    return said

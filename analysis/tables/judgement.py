"""A word for every claim and data set: supported, contradicted or undecided, on what, and what would decide.

A data set is what one store, source domain, preset and backbone made in a folder of tables; a folder that holds tables
of several stores is several data sets.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables.bound.findings import explains, is_lowest
from analysis.tables.bound.stability import StabilityTables
from analysis.tables.bound.tables import BoundTables
from analysis.tables.claims import CLAIMS, CONTRADICTED, SUPPORTED, Claim, Comparison, Finding, comparisons_of
from analysis.tables.effect import UNDECIDED
from analysis.tables.read import attributes_asked
from analysis.tables.study import StudyTables
from tatl.data.store import write_csv
from tatl.studies.settings import comma_list

Tables = StudyTables | BoundTables | StabilityTables
_SAME = ("store_digest", "source", "preset", "size", "backbone")


@dataclass
class DataSet:
    """The studies of one store in a folder, by name."""

    folder: Path
    studies: dict[str, StudyTables] = field(default_factory=dict)
    bound: BoundTables | None = None
    stability: StabilityTables | None = None
    apart: bool = False  # another has the same title

    @property
    def tables(self) -> Tables:
        """Any of them, for where numbers come from."""
        return next(each for each in (*self.studies.values(), self.bound, self.stability) if each)

    @property
    def about(self) -> dict[str, Any]:
        return self.tables.about

    @cached_property
    def title(self) -> str:
        about = self.about
        name = about.get("label") or about.get("store_name") or about.get("data", "unknown data")
        trained = [f"{len(t.about.get('folds', []))} x {len(t.about.get('seeds', []))}" for t in self.studies.values()]
        runs = f"folds x seeds {' and '.join(dict.fromkeys(trained))}" if trained else ""
        own = [self.folder.parent.name, about.get("store_digest"), about.get("backbone")] if self.apart else []
        return ", ".join(map(str, filter(None, [name, *map(about.get, ("source", "preset", "size")), runs, *own])))

    @cached_property
    def comparisons(self) -> dict[Claim, list[Comparison]]:
        return {c: comparisons_of(c, self.studies[c.study]) if c.study in self.studies else [] for c in CLAIMS}

    @cached_property
    def findings(self) -> list[Finding]:
        """One for each claim, those on the bound last."""
        found = [judged(claim, each, str(self.about.get("source", ""))) for claim, each in self.comparisons.items()]
        return [*found, is_lowest(self.bound), explains(self.bound, self.studies.get("paradigms"), self.stability)]


def judged(claim: Claim, comparisons: Sequence[Comparison], source: str = "") -> Finding:
    """The word of a claim, by `RULES`, and the difference that decides it: the one that supports it least."""
    if not comparisons:
        return Finding(claim.sentence, claim.study)
    words = [each.word for each in comparisons]
    least = min(comparisons, key=lambda each: each.least)
    said = f"least of {len(comparisons)}: " * bool(comparisons[1:]) + least.said
    lacking = {
        f"--source {claim.source}": claim.source not in ("", source),
        f"the rows {_missing(claim, comparisons)}": len(comparisons) < len(claim.pairs) and CONTRADICTED not in words,
        least.needs: set(words) != {SUPPORTED} and CONTRADICTED not in words,
        f"a row of as many steps{_longer(claim)}": CONTRADICTED not in words and all(c.unequal for c in comparisons),
    }
    needs = " and ".join(what for what, so in lacking.items() if so and what)
    word = UNDECIDED if needs else CONTRADICTED if CONTRADICTED in words else SUPPORTED
    return Finding(claim.sentence, claim.study, word, said, needs, least.effect.difference, *least.effect.interval)


def _missing(claim: Claim, comparisons: Sequence[Comparison]) -> str:
    there = " ".join(each.title for each in comparisons)
    return " and ".join(name for _, name in claim.pairs if name not in there)


def _longer(claim: Claim) -> str:
    """The rows of as many steps that a claim would take instead."""
    longer = [name.partition("|")[0] for _, name in claim.pairs if "|" in name]
    return f" ({', '.join(longer)})" if longer else ""


def data_sets(folders: Sequence[Path], attributes: str = "", dataset: str = "") -> list[DataSet]:
    """The data sets of folders of tables, of some attributes alone; `dataset` is what the first folder's are called.

    Raises FileNotFoundError where no folder holds a study, ValueError for an attribute that none measured.
    """
    found: dict[tuple[Any, ...], DataSet] = {}
    measured: dict[str, None] = {}
    wanted = comma_list(attributes)
    for number, folder in enumerate(folders):
        label = dataset if number == 0 else ""
        for tables in _read(folder, label, own=number == 0):
            measured |= dict.fromkeys(tables.attributes)
            if not (asked := [name for name in tables.attributes if name in wanted or not wanted]):
                continue
            place = found.setdefault((folder, *map(tables.about.get, _SAME)), DataSet(folder))
            if isinstance(tables, StudyTables):
                place.studies[tables.study] = tables.only(asked) if wanted else tables
            elif isinstance(tables, BoundTables):
                place.bound = BoundTables.read(folder, ",".join(asked), label)
            else:
                place.stability = StabilityTables.read(folder, ",".join(asked), label)
    attributes_asked(attributes, list(measured), folders[0])
    if not found:
        raise FileNotFoundError(f"{', '.join(map(str, folders))} holds no study: `python -m tatl study` writes one")
    titles = Counter(each.title for each in found.values())
    return [replace(each, apart=titles[each.title] > 1) for each in found.values()]


def _read(folder: Path, label: str, own: bool) -> Iterator[Tables]:
    """The studies, bound and stability of a folder; of another's, those that can be read: one may just be written."""
    studies = dict.fromkeys(claim.study for claim in CLAIMS)
    readers: dict[str, Callable[[], Tables]] = {
        f"{name}.csv": partial(StudyTables.read, name, folder, dataset=label) for name in studies
    }
    readers["bound.json"] = partial(BoundTables.read, folder, dataset=label)
    readers["stability_predictors.csv"] = partial(StabilityTables.read, folder, dataset=label)
    for file, read in readers.items():
        if (folder / file).exists():
            try:
                tables = read()
                if not own and isinstance(tables, StudyTables):
                    _ = tables.images  # which are read when they are asked for
            except (ValueError, FileNotFoundError) as error:
                if own:
                    raise
                print(f"note: left out, {error}", file=sys.stderr)
            else:
                yield tables


def beside(tables: Path) -> list[Path]:
    """A folder of tables, and where it lies in `reports` the others there."""
    tables = tables.expanduser().resolve()
    there = sorted(tables.parent.parent.glob("*/tables")) if tables.parent.parent.name == "reports" else []
    others = [each for each in there if not each.parent.name.endswith("smoke")]  # whose numbers mean nothing
    return list(dict.fromkeys([tables, *others]))


def write_verdicts(tables: Path) -> None:
    """Write verdicts.csv and print its words as a table in Markdown, a row a claim and a column a data set."""
    found = data_sets(beside(tables))
    rows = [{"data": each.title, **vars(finding)} for each in found for finding in each.findings]
    write_csv(pd.DataFrame(rows), tables / "verdicts.csv")
    lines = [["claim", *(each.title for each in found)], ["---"] * (len(found) + 1)]
    claims = zip(*(each.findings for each in found), strict=True)
    lines += [[each[0].claim, *(finding.cell() for finding in each)] for each in claims]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))

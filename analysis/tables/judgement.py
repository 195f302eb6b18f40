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

from analysis.tables.bound.tables import BoundTables
from analysis.tables.claims import CLAIMS, CONTRADICTED, NOT_MEASURED, SUPPORTED, Claim, Comparison, comparisons_of
from analysis.tables.effect import LEVEL, UNDECIDED
from analysis.tables.read import attributes_asked
from analysis.tables.study import StudyTables
from analysis.tables.words import counted
from tatl.data.store import write_csv

FEWEST_SEEDS = 2  # of a bound, which is of one fold
LOWEST, EXPLAINS = "TATL's bound is lowest", "And that explains it"
_SAME = ("store_digest", "source", "preset", "size", "backbone")
_TATL = "tatl"


@dataclass(frozen=True)
class Finding:
    """What tables say of a claim; `study` is the page that shows it.

    difference, low, high  of Dice, with its interval; of the bound as a multiple of the reference's; NaN where unknown
    """

    claim: str
    study: str
    word: str = NOT_MEASURED
    said: str = ""
    needs: str = ""
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")

    def cell(self, link: str = "") -> str:
        """undecided: +3.1 (-1.0 to +7.2) ...; needs 20 groups."""
        word = f"[{self.word}]({link})" if link and self.word != NOT_MEASURED else self.word
        needs = f"needs {self.needs}" if self.needs else ""
        return ": ".join(filter(None, [word, "; ".join(filter(None, [self.said, needs]))]))


@dataclass(frozen=True)
class DataSet:
    """The studies of one store in a folder, by name."""

    folder: Path
    studies: dict[str, StudyTables] = field(default_factory=dict)
    bounds: list[BoundTables] = field(default_factory=list)
    apart: bool = False  # another has the same title

    @property
    def tables(self) -> StudyTables | BoundTables:
        """Any of them, for where numbers come from."""
        return next(iter(self.studies.values())) if self.studies else self.bounds[0]

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
        bound = self.bounds[0] if self.bounds else None
        return [*found, _lowest(bound) if bound else Finding(LOWEST, "bound"), self._explains(bound)]

    def _explains(self, bound: BoundTables | None) -> Finding:
        """For how many starts bound and Dice part them from the reference alike, where both do."""
        nothing, reference = Finding(EXPLAINS, "bound"), bound.reference if bound else ""
        study = self.studies.get("paradigms")
        if bound is None or study is None or reference not in study.variants:
            return nothing
        apart = _apart(bound)
        signs = {}
        for start in (name for name in apart if name in study.variants):
            (each,) = comparisons_of(Claim("", "paradigms", ((start, reference),)), study)
            signs[start] = apart[start] * {SUPPORTED: 1, CONTRADICTED: -1, UNDECIDED: 0}[each.word]
        if not signs:
            return nothing
        agree, against = (sum(sign == wanted for sign in signs.values()) for wanted in (1, -1))
        said = f"against {reference} they agree for {agree} of {counted(len(signs), 'start')}, disagree for {against}"
        word = CONTRADICTED if against else SUPPORTED if agree == len(signs) else UNDECIDED
        return Finding(EXPLAINS, "bound", word, said, "" if word != UNDECIDED else "starts that both tell apart")


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


def _overall(bound: BoundTables) -> pd.DataFrame:
    """The average over attributes, or the only one's rows, by start; none of several without their average."""
    of = bound.groups[-1:] if len(bound.average) or len(bound.attributes) == 1 else []
    return bound.rows[bound.rows["attribute"].isin(of)].set_index("start")


def _lowest(bound: BoundTables) -> Finding:
    rows = _overall(bound)
    if _TATL not in rows.index or len(rows) < 2:
        return Finding(LOWEST, "bound")
    mine, values = pd.Series(rows.loc[_TATL]), rows["bound"]
    each = bound.wide("bound", "bound").dropna(subset=[_TATL])
    first = int((each[_TATL] <= each.min(axis=1)).sum())
    share, seeds = float(rows["lowest"][_TATL]), bound.seeds
    word = SUPPORTED if share >= LEVEL else CONTRADICTED if share <= 1 - LEVEL else UNDECIDED
    needs = "" if word != UNDECIDED else "more images"
    if seeds < FEWEST_SEEDS:
        word, needs = UNDECIDED, " and ".join(filter(None, ["a second seed", needs]))
    ratio, low, high = mine[["ratio", "ratio_images_low", "ratio_images_high"]].astype(float).tolist()
    beside = f"{ratio:.2f} ({low:.2f} to {high:.2f}) times {bound.reference}'s" if bound.reference else ""
    said = [f"number {1 + int((values < mine['bound']).sum())} of {len(values)}", beside,
            f"lowest in {share:.0%} of resamples", f"for {first} of {counted(len(each), 'attribute')}"]  # fmt: skip
    return Finding(LOWEST, "bound", word, ", ".join(filter(None, said)), needs, ratio, low, high)


def _apart(bound: BoundTables) -> dict[str, int]:
    """1 where a start's bound is below the reference's over images and seeds, -1 where it is above, else 0."""
    rows = _overall(bound).drop(bound.reference, errors="ignore")
    ends = rows[[f"ratio_{over}_{end}" for over in ("images", "seeds") for end in ("low", "high")]]
    sure = bound.seeds >= FEWEST_SEEDS
    signs = sure * ((ends < 1).all(axis=1).astype(int) - (ends > 1).all(axis=1).astype(int))
    return {str(start): int(sign) for start, sign in signs.items()}


def data_sets(folders: Sequence[Path], attributes: str = "", dataset: str = "") -> list[DataSet]:
    """The data sets of folders of tables, of some attributes alone; `dataset` is what the first folder's are called.

    Raises FileNotFoundError where no folder holds a study, ValueError for an attribute that none measured.
    """
    found: dict[tuple[Any, ...], DataSet] = {}
    measured: dict[str, None] = {}
    for number, folder in enumerate(folders):
        label = dataset if number == 0 else ""
        for tables in _read(folder, label, own=number == 0):
            measured |= dict.fromkeys(tables.attributes)
            if not (asked := _those(attributes, tables.attributes)):
                continue
            place = found.setdefault(_identity(folder, tables), DataSet(folder))
            if isinstance(tables, StudyTables):
                place.studies[tables.study] = tables.only(asked) if attributes.strip() else tables
            else:
                place.bounds.append(BoundTables.read(folder, ",".join(asked), label))
    attributes_asked(attributes, list(measured), folders[0])
    if not found:
        raise FileNotFoundError(f"{', '.join(map(str, folders))} holds no study: `python -m tatl study` writes one")
    titles = Counter(each.title for each in found.values())
    return [replace(each, apart=titles[each.title] > 1) for each in found.values()]


def _read(folder: Path, label: str, own: bool) -> Iterator[StudyTables | BoundTables]:
    """The studies and the bound of a folder; of another's, those that can be read: one may just be written."""
    studies = dict.fromkeys(claim.study for claim in CLAIMS)
    readers: dict[str, Callable[[], StudyTables | BoundTables]] = {
        f"{name}.csv": partial(StudyTables.read, name, folder, dataset=label) for name in studies
    }
    readers["bound.json"] = partial(BoundTables.read, folder, dataset=label)
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


def _those(attributes: str, measured: Sequence[str]) -> list[str]:
    asked = [name.strip() for name in attributes.split(",") if name.strip()]
    return [name for name in measured if name in asked or not asked]


def _identity(folder: Path, tables: StudyTables | BoundTables) -> tuple[Any, ...]:
    return (folder, *(tables.about.get(name) for name in _SAME))


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

"""python -m analysis.report: execute notebooks on the tables of a study and render static pages.

A question is a notebook: one cell tagged `parameters`, drawing calls, and in its metadata what it reads,

    "tatl": {"needs": ["study.json", "variants.csv"], "wants": [...], "command": "python -m tatl study variants"}

Without a table that it needs there is a page that says which command makes it; without one that it wants the page is
partial; `reads` names by patterns what else it shows where it is there.  Pages are made side by side, and those whose
notebook, tables, parameters and code are unchanged are kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from analysis.site.card import ANALYSIS, FAILED, MISSING, Card, Value, checksum, fill, keep, kept
from tatl import cli
from tatl.machine.processes import cores
from tatl.machine.version import commit

INSTALLED = ANALYSIS / "notebooks"
NOTEBOOKS = INSTALLED if INSTALLED.is_dir() else ANALYSIS.parent / "notebooks"  # those of the checkout
ORDER = (
    "verdicts", "variants", "bound", "stability", "paradigms", "data_size", "convergence", "crop", "backbones", "data",
    "gallery", "suspects",
)  # fmt: skip


def questions(study: str, notebooks: Path) -> list[Path]:
    """The notebooks asked for: names with commas, or all; ValueError for one that does not exist."""
    known = {path.stem: path for path in sorted(notebooks.glob("*.ipynb"), key=lambda path: _place(path.stem))}
    names = [name.strip().replace("-", "_") for name in study.split(",") if name.strip()]
    names = list(known) if study == "all" else names
    choice = f"choose of {', '.join(known) or 'none'}, or all"
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no notebook for {', '.join(unknown)} in {notebooks}: {choice}")
    if not names:
        raise ValueError(f"study {study!r} names no notebook in {notebooks}: {choice}")
    return [known[name] for name in dict.fromkeys(names)]


def _place(name: str) -> tuple[int, str]:
    """Where a question stands on the index: the paper's questions first."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _made(
    paths: list[Path], tables: Path, out: Path, parameters: dict[str, Value], progress: bool, workers: int
) -> Iterator[Card]:
    """The cards of the pages as they come, with a bar of pages and below it one of cells per notebook at work.

    Threads are enough: each waits for the kernel of its notebook, which is a process.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    from analysis.site.page import Builder  # what executes and renders takes seconds to import

    jobs = Parallel(min(workers or cores(), len(paths)), backend="threading", return_as="generator_unordered")
    cards = jobs(delayed(Builder(tables, out, parameters, progress))(path) for path in paths)
    yield from tqdm(cards, desc="report", unit="page", total=len(paths), disable=not progress)


def _write_index(cards: list[Card], out: Path, command: str) -> Path:
    """One card per question, those of earlier reports in this folder too."""
    index = out / "index.html"
    fill(
        index,
        title="TATL report",
        lead="Task agnostic transfer learning of attributes. For research; not a medical device.",
        cards=sorted(cards, key=lambda card: (card.state == MISSING, _place(card.study))),
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        commit=commit() or "not recorded",
        command=command,
    )
    return index


def render_pages(
    study: str = "all",
    tables: Path = Path("reports/quick/tables"),
    out: Path | None = None,
    parameters: dict[str, Value] | None = None,
    notebooks: Path = NOTEBOOKS,
    progress: bool = True,
    workers: int = 0,
) -> None:
    """Execute notebooks on the tables of a study and render them as static pages with an index.

    Example: python -m analysis.report --study variants --tables reports/quick/tables --out reports/quick

    Args:
        study: names of notebooks, with commas, or all
        tables: folder that `python -m tatl study` wrote
        out: folder for index.html and the pages; empty: the parent of the tables
        parameters: further notebook parameters, such as --parameters.cases=3; an unknown one is an error
        notebooks: folder of the notebooks
        progress: show a bar of pages, and one of cells per notebook at work
        workers: notebooks executed side by side; 0: one a core
    """
    paths, out, parameters = questions(study, notebooks), out or tables.parent, parameters or {}
    if parameters:
        from analysis.site.notebook import check_parameters

        for path in paths:
            check_parameters(path, parameters)
    given = {"study": study, "tables": tables, "out": out}
    given |= {f"parameters.{name}": value for name, value in parameters.items()}
    command = shlex.join(["python", "-m", "analysis.report", *(f"--{name}={value}" for name, value in given.items())])
    keys = {path.stem: checksum(path, tables, parameters) for path in paths}
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = kept(out)
        todo = [path for path in paths if before.get(path.stem, ("", None))[0] != keys[path.stem]]
        cards = {name: card for name, (_, card) in before.items()}
        for card in _made(todo, tables, out, parameters, progress, workers) if todo else ():
            keep(out, card, keys[card.study])
            cards[card.study] = card
        index = _write_index(list(cards.values()), out, command)
    except OSError as error:
        raise OSError(f"{out} cannot be written ({error}): give another folder with --out") from error
    asked = [cards[path.stem] for path in paths]
    made = sum(cards[path.stem].state != MISSING for path in todo)
    print(*asked, f"{made} of {len(paths)} pages made anew", f"next: open {index}", sep="\n")
    if failed := [card.study for card in asked if card.state == FAILED]:
        raise RuntimeError(f"{', '.join(failed)} failed: the page says where")
    if all(card.state == MISSING for card in asked):
        raise FileNotFoundError(f"no page could be made: {asked[0].message} {asked[0].command}")


report_from = partial(cli.script, render_pages, "analysis.report")

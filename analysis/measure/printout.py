"""The bound and spectra in a terminal: the frames that their page shows, each with what its columns mean."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.measure.starts import StartNetwork, StartScene
from analysis.tables.bound.frames import BoundFrames, explained, spectra_frame
from analysis.tables.bound.tables import BoundTables, origin_line, read_bound_table
from analysis.tables.bound.verdict import Verdict
from analysis.tables.paper import Origin
from analysis.tables.read import read_about
from analysis.tables.words import listed
from tatl.names import AVERAGE
from tatl.studies.settings import comma_list

_WIDTH = 120


def bound_text(folder: Path, notes: Sequence[str], distance: bool = False) -> str:
    """All that is said of the bound's tables in a folder: verdict, bounds, what they are made of, assumptions."""
    tables = BoundTables.read(folder)
    frames = BoundFrames(tables)
    parts = [_filled(tables.origin()), _filled(str(Verdict(tables)))]
    parts += [_block(frame) for frame in (frames.bounds(), frames.measured(), frames.factors())]
    if distance:
        parts.append(f"Hessian distance after fine-tuning (Ju, Li & Zhang 2022)\n{_block(frames.distances())}")
    rows = frames.audit().iterrows()
    audit = [f"{name}: {row['does it hold']} [{row['start']}]; {row['found']}" for name, row in rows]
    parts += ["\n  ".join(["The theorem assumes", *audit]), "\n".join(f"note: {note}" for note in dict.fromkeys(notes))]
    return "\n\n".join(filter(None, parts))


def spectrum_text(folder: Path) -> str:
    """What is said of the tables of spectra in a folder."""
    told, table = Origin(), read_bound_table(folder, "spectrum")
    told.about = read_about(folder / "spectrum.json", "python -m analysis.spectrum")
    origin = origin_line(told, f"mean loss over {table['images'].max():.0f} training images")
    return f"{_filled(origin)}\n\n{_block(spectra_frame(table))}\n"


def _block(frame: pd.DataFrame) -> str:
    """A frame, and below it what its columns mean."""
    return f"{frame.to_string()}\n{_filled(explained(frame))}".rstrip()


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def cautions(
    starts: Sequence[StartNetwork], table: pd.DataFrame, scene: StartScene, sources: int, tolerance: float
) -> list[str]:
    """What a reader must not take these numbers for."""
    settings, single = scene.planner.settings, table[table["attribute"] != AVERAGE]
    first: dict[str, list] = {"shape": comma_list(settings.shapes), "fold": settings.fold_numbers}
    more = [f"{name} {listed(values)}" for name, values in first.items() if len(values) > 1]
    largest, double = single["curvature_largest"], single["curvature_largest_float64"]
    found = {
        "the largest norm did not converge in float64 either": ~single["curvature_largest_converged"].astype(bool),
        "the largest norm is another in float64, by more than twice the tolerance: look at both, and at the bound "
        "without it": (largest / double - 1).abs() > 2 * tolerance,
        "the mean norm may be off by more than a hundredth, by the solver's own estimate: give a smaller --share": (
            single["curvature_error"] > 0.01
        ),
        "one image alone makes more than half of the mean norm, which therefore moves with the choice of images": (
            largest > 0.5 * single["curvature"] * single["images"]
        ),
    }
    said = [note for start in starts for note in start.notes]
    said += [f"of {'; of '.join(more)} only the first is measured"] * bool(more)
    said += ["with one candidate source sqrt(log K) is 0, and so is every bound"] * (sources == 1)
    return said + [f"in {rows.sum()} of {len(single)} rows {what}" for what, rows in found.items() if rows.any()]

"""Spectra of starts on a page: density, trace and leading eigenvalues of the Hessian of the mean loss over images.

They are of *one* Hessian, that of the mean, whereas the bound speaks of the mean of per-image norms; `python -m
analysis.spectrum` measures them.  Eigenvalues are signed and span decades, so axes are linear up to `LINEAR` of the
largest and logarithmic beyond (symlog).
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.pages import html
from analysis.tables.bound import KEYS, Measured, chosen, read_table, scene, three
from analysis.pages.html import Html
from analysis.pages.bound.lanes import WIDTH, Lanes, Look, legend, panels, tall, told
from analysis.pages.theme import INK, STYLES, theme
from analysis.pages.words import counted, listed, plain, warnings
from analysis.tables.paper import Origin
from analysis.tables.read import ordered, read_about

COMMAND = "python -m analysis.spectrum --init source tatl"
COLUMNS = {
    "spectrum": [*KEYS, "images", "loss", "trace", "trace_error", "trace_by_density", "trace_by_density_error", "top1",
                 "residual", "converged"],
    "spectrum_density": [*KEYS, "eigenvalue", "density", "error"],
}  # fmt: skip
LINEAR = 1e-3
FLOOR = 1e-6  # of the highest density, below which nothing is drawn
SMEARED = 6.0  # steps of the grid that the smoothing of a density, two steps wide, spreads what is at 0
AGREE = 2.0  # standard errors within which two estimates of a trace agree


@dataclass(frozen=True)
class Spectra(Origin):
    """spectrum.csv and spectrum_density.csv of the chosen attributes; `top` are its columns of leading eigenvalues."""

    about: dict[str, Any]
    table: pd.DataFrame
    density: pd.DataFrame
    attributes: list[str]
    look: Look
    top: list[str]

    @classmethod
    def read(cls, measured: Measured) -> Spectra | None:
        """The spectra beside the tables of the bound, None where there are none; errors say the command."""
        path = measured.folder / "spectrum.csv"
        if not path.exists():
            return None
        label = {name: said for name, said in measured.about.items() if name == "label"}
        about = read_about(measured.folder / "spectrum.json", COMMAND) | label
        table = read_table(path, COLUMNS["spectrum"], COMMAND)
        density = read_table(measured.folder / "spectrum_density.csv", COLUMNS["spectrum_density"], COMMAND)
        seen = list(dict.fromkeys(table["attribute"]))
        there = [name for name in measured.attributes if name in seen]
        attributes = there if len(there) < len(seen) and there else chosen("", seen, measured.folder)
        top = [name for name in map(str, table) if name.startswith("top") and name[3:].isdigit()]
        table = table.assign(**{name: pd.to_numeric(table[name], errors="coerce").astype(float) for name in top})
        starts = ordered([*measured.starts, *table["start"]], list(STYLES))
        every, own = Look.of(starts, list(STYLES)), set(table["start"])
        look = Look([name for name in starts if name in own], every.colour, every.marker)
        table, density = (frame[frame["attribute"].isin(attributes)] for frame in (table, density))
        return cls(about, table, density, attributes, look, top)

    @property
    def linear(self) -> float:
        """Up to where the axis of eigenvalues is linear."""
        values = self.table[self.top].abs().to_numpy()
        largest = np.nanmax(values) if np.isfinite(values).any() else 1.0
        return float(LINEAR * largest) or 1.0


def missing(measured: Measured) -> str:
    """The command that measures spectra of the same starts on the same store."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--store", "--preset", "--tables", "--shapes", "--source"):
        parser.add_argument(option)
    given, _ = parser.parse_known_args(shlex.split(str(measured.about.get("command", ""))))
    same = [word for name, value in vars(given).items() if value for word in (f"--{name}", value)]
    command = shlex.join(["python", "-m", "analysis.spectrum", "--init", *(measured.starts or ["tatl"]), *same])
    return f"No spectrum was measured: `{command}` does it, in minutes a start and attribute."


def density(spectra: Spectra) -> Figure:
    """Spectral density of each start, with its standard error over random vectors: one panel per attribute."""
    table, look = spectra.density, spectra.look
    highest = float(table["density"].max()) if len(table) else 1.0
    with theme():
        figure, drawn = panels(spectra.attributes, "eigenvalue", "density")
        for attribute, axes in drawn.items():
            for start in look.names:
                rows = table[(table["attribute"] == attribute) & (table["start"] == start)].sort_values("eigenvalue")
                value, error = (rows[name].to_numpy() for name in ("density", "error"))
                low, high = (np.maximum(edge, FLOOR * highest) for edge in (value - error, value + error))
                axes.fill_between(rows["eigenvalue"], low, high, color=look.colour[start], alpha=0.25, linewidth=0)
                axes.plot(rows["eigenvalue"], value, color=look.colour[start], linewidth=1.4)
            axes.set_yscale("log")
            axes.set_ylim(FLOOR * highest, 3 * highest)
            _signed(axes, _width(table), table["eigenvalue"])
        legend(figure, look, linestyle="-", marker="", linewidth=2)
    return figure


def _width(table: pd.DataFrame) -> float:
    """Half the width of what the smoothing makes of an eigenvalue of 0, of the finest grid."""
    grids = [np.diff(np.sort(part["eigenvalue"])) for _, part in table.groupby(KEYS)]
    steps = [float(steps.max()) for steps in grids if len(steps) and steps.max() > 0]
    return SMEARED * min(steps, default=1.0)


def _signed(axes: Axes, linear: float, values: Iterable[float]) -> None:
    """Eigenvalues along x: linear up to `linear` round 0, logarithmic beyond; ticks at 0 and few powers."""
    sizes = [abs(value) for value in values if np.isfinite(value)]
    largest = max([*sizes, 10 * linear])
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_xlim(-1.3 * largest, 1.3 * largest)
    low, high = int(np.floor(np.log10(linear))) + 1, int(np.floor(np.log10(largest)))
    powers = [high, *([high - 2] if high - 2 >= low else [])]
    marks = [0.0, *(sign * 10.0**power for power in powers for sign in (-1, 1))]
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(0, color=INK, linewidth=0.7, zorder=1)


def leading(spectra: Spectra) -> Figure:
    """The eigenvalues of largest magnitude (filled: the first), and the trace with its standard error (hollow)."""
    table, look = spectra.table, spectra.look
    with theme():
        figure = Figure(figsize=(WIDTH, tall(spectra.attributes, look)), layout="constrained")
        axes = figure.subplots()
        lanes = Lanes(axes, spectra.attributes, look)
        for row in table.to_dict("records"):
            y, colour = lanes.y(row["attribute"], row["start"]), look.colour[row["start"]]
            tops = np.array([row[name] for name in spectra.top])
            axes.plot(tops, np.full(len(tops), y), "|", color=colour, markersize=8, markeredgewidth=1.4)
            axes.plot(tops[:1], [y], **look.point(row["start"], size=5))
            axes.errorbar(
                row["trace"], y, xerr=row["trace_error"], fmt="D", markersize=6, markerfacecolor="none", color=colour
            )
        _signed(axes, spectra.linear, table[[*spectra.top, "trace"]].to_numpy().ravel())
        axes.set_xlabel("eigenvalues of largest magnitude, and their sum over all weights (trace)")
        kinds = [told("largest", marker="o"), told("next ones", marker="|", markeredgewidth=1.4)]
        legend(figure, look, [*kinds, told("trace ± standard error", marker="D", markerfacecolor="none")])
    return figure


def shape(spectra: Spectra) -> str:
    """How far the density reaches to either side, and how much of its weight is negative."""
    found = []
    for (start, attribute), rows in spectra.density.groupby(["start", "attribute"], sort=False):
        total = rows["density"].sum()
        if total > 0 and len(rows) > 1:
            step = float(np.diff(np.sort(rows["eigenvalue"])).max())
            mass = float(rows["density"][rows["eigenvalue"] < -SMEARED * step].sum() / total)
            found.append((mass, f"{start} on {plain(attribute)}", rows["eigenvalue"].min(), rows["eigenvalue"].max()))
    if not found:
        return "spectrum_density.csv has no rows of these attributes."
    low, high = min(row[2] for row in found), max(row[3] for row in found)
    most = max(found)
    return (
        f"The density reaches from {three(low)} to {three(high)}; at most {most[0]:.1%} of it (for "
        f"{most[1]}) is farther below 0 than the smoothing spreads what is at 0."
    )


def eigenvalues(spectra: Spectra) -> str:
    """Signs and sizes of the leading eigenvalues, whether they were found, and whether two traces agree."""
    table = spectra.table[spectra.table["top1"].notna()]
    if table.empty:
        return "spectrum.csv has no rows of these attributes."
    negative, size = int((table["top1"] < 0).sum()), table["top1"].abs()
    most = table.iloc[int(size.argmax())]
    error = np.hypot(table["trace_error"], table["trace_by_density_error"])
    agree = int(((table["trace"] - table["trace_by_density"]).abs() <= AGREE * error).sum())
    said = (
        f"The largest |eigenvalue| is from {three(size.min())} to {three(size.max())} ({most['start']} on "
        f"{plain(most['attribute'])}), negative in {negative} of {counted(len(table), 'row')}; two independent "
        f"estimates of the trace agree within {AGREE:g} standard errors in {agree}"
    )
    failed = table["start"][table["converged"] != 1]
    return f"{said}; {listed(sorted(set(failed)))} did not converge everywhere." if len(failed) else f"{said}."


def caption(spectra: Spectra) -> str:
    """Where the numbers come from, and what the mean loss is over."""
    images = spectra.table["images"].dropna()
    many = f"{images.min():.0f} to {images.max():.0f}" if images.nunique() > 1 else three(images.max()) or "no"
    return " ".join([f"{scene(spectra)}; mean loss over {many} training images.", *warnings(spectra)])


def landscape(measured: Measured) -> Html:
    """Both figures with their sentences, or the command that measures what they show."""
    found = Spectra.read(measured)
    if found is None:
        return html.sentence(missing(measured))
    alts = [
        f"{what} of the Hessian at every start, per attribute."
        for what in ("Spectral density", "Leading eigenvalues and trace")
    ]
    drawn = [(density(found), alts[0], shape(found)), (leading(found), alts[1], eigenvalues(found))]
    return Html("".join(html.figure(*each, caption(found)).text for each in drawn))

"""The single norms that a mean is made of, how well each eigenvalue was found, and the Hessian distance beside them.

A norm is the largest |eigenvalue| of the Hessian of one image's loss; its residual |H v - lambda v| / |lambda| says how
well it was found.  The distance is v^T H v along the way v that fine-tuning went (Ju, Li & Zhang 2022).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.pages import html
from analysis.pages.bound.figure7 import NOTHING
from analysis.tables.bound import DISTANCE, Measured, between, caption
from analysis.pages.html import Html
from analysis.pages.bound.lanes import WIDTH, Lanes, legend, span, tall, told
from analysis.pages.theme import INK, Style, theme
from analysis.pages.words import counted, listed, plain

HALF = 0.5
MEAN: Style = {"marker": "|", "color": INK, "markersize": 9, "markeredgewidth": 1.6}


def norms(measured: Measured) -> Figure:
    """Each image's norm: filled where it has the attribute; the line is the mean, which few large norms may make."""
    table, look = measured.shown, measured.look
    with theme():
        figure = Figure(figsize=(WIDTH, tall(measured.attributes, look)), layout="constrained")
        axes = figure.subplots()
        lanes = Lanes(axes, measured.attributes, look)
        ends = span(axes, table["norm"], log=True)
        for attribute in measured.attributes:
            for start in look.names:
                part = table[(table["start"] == start) & (table["attribute"] == attribute)]
                _norms(lanes, part, attribute, start, ends)
        axes.set_xlabel("norm of one image's Hessian (largest |eigenvalue|)")
        kinds = [told("image has it", marker="o"), told("has it not", marker="o", markerfacecolor="none")]
        legend(figure, look, [*kinds, told("mean", **MEAN)])
    return figure


def _norms(lanes: Lanes, part: pd.DataFrame, attribute: str, start: str, ends: tuple[float, float]) -> None:
    """The images of one start and attribute in their lane; norms of 0 stand at the lower edge."""
    y, colour, has = lanes.y(attribute, start), lanes.look.colour[start], part["positive"] == 1
    for values, face in ((part["norm"][has], colour), (part["norm"][~has], "none")):
        known = np.clip(values.dropna(), *ends)
        lanes.axes.scatter(known, np.full(len(known), y), s=15, facecolor=face, edgecolor=colour, linewidth=0.8)
    lanes.axes.plot(np.clip(part["norm"].mean(), *ends), y, **MEAN)


def tails(measured: Measured) -> str:
    """In how many rows one image makes more than half of the mean norm."""
    table = measured["bound"]
    share = (table["curvature_largest"] / (table["curvature"] * table["images"])).replace(np.inf, np.nan).dropna()
    if share.empty:
        return NOTHING
    row = table.loc[share.index[int(share.argmax())]]
    said = (
        f"In {int((share > HALF).sum())} of {counted(len(share), 'row')} one image alone makes more than half of the "
        f"mean norm (most: {share.max():.1%} for {row['start']} on {plain(row['attribute'])}, over "
        f"{counted(row['images'], 'image')}), so the mean moves with the choice of images."
        if (share > HALF).any()
        else f"In none of {counted(len(share), 'row')} one image alone makes more than half of the mean norm."
    )
    return f"{said} {_again(table)}".rstrip()


def _again(table: pd.DataFrame) -> str:
    """How far the largest norms are from those solved again in float64, and what the bounds would be without them."""
    apart = (table["curvature_largest"] / table["curvature_largest_float64"] - 1).abs()
    without = (table["bound_without_largest"] / table["bound"]).replace(np.inf, np.nan).dropna()
    apart = apart.replace(np.inf, np.nan).dropna()
    said = [f"solved again in float64 the largest norms differ by {apart.max():.1%} at most"] * bool(len(apart))
    said += [f"without the image of the largest a bound is {between(without)} times what it is"] * bool(len(without))
    return f"{'; '.join(said)}.".capitalize() if said else ""


def convergence(measured: Measured) -> Figure:
    """The share of eigenvalues found to within each relative residual, per start; dotted: what was asked for."""
    table, look = measured["bound_images"], measured.look
    tolerance = _tolerance(measured)
    with theme():
        figure = Figure(figsize=(5.8, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.grid(True, axis="both")
        low, _ = span(axes, [*table["residual"], tolerance], log=True)
        for start in look.names:
            residual = np.sort(table["residual"][table["start"] == start].dropna())
            share = 100 * np.arange(1, len(residual) + 1) / max(1, len(residual))
            style = look.point(start, size=4.5) | {"markevery": max(1, len(residual) // 6)}
            axes.plot(np.maximum(residual, low), share, drawstyle="steps-post", linewidth=1.4, **style)
        if np.isfinite(tolerance):
            axes.axvline(tolerance, color=INK, linestyle=":", linewidth=1)
        axes.set_ylim(-2, 104)
        axes.set_xlabel("relative residual of the eigenvalue")
        axes.set_ylabel("images and attributes (%)")
        legend(figure, look, [told("asked for", color=INK, linestyle=":", linewidth=1)])
    return figure


def _tolerance(measured: Measured) -> float:
    options = measured.about.get("options")
    return float(options.get("tolerance", np.nan)) if isinstance(options, dict) else float("nan")


def converged(measured: Measured) -> str:
    """How many eigenvalues were found, to what residual, at what cost."""
    table = measured["bound_images"]
    table = table[table["residual"].notna()]
    if table.empty:
        return "No eigenvalue is in bound_images.csv."
    failed = table[table["converged"] != 1]
    cost = f"{between(table['products'])} Hessian-vector products each"
    asked = f" {_tolerance(measured):g}" if np.isfinite(_tolerance(measured)) else ""
    if failed.empty:
        return (
            f"All {counted(len(table), 'eigenvalue')} reached the relative residual{asked} asked for (largest "
            f"{table['residual'].max():.2g}), in {cost}."
        )
    where = listed(list(failed["start"].value_counts().index))
    return (
        f"{len(failed)} of {counted(len(table), 'eigenvalue')} did not reach the relative residual{asked} asked for "
        f"(largest {failed['residual'].max():.2g}; {where}), in {cost}: their norms are estimates from below."
    )


def distance(measured: Measured) -> Figure:
    """The measure of Ju, Li and Zhang, sqrt(max v^T H v / m), of the segmenters trained from every start."""
    table, look = measured[DISTANCE], measured.look
    table = table[table["start"].isin(look.names)]
    with theme():
        figure = Figure(figsize=(WIDTH, tall(measured.attributes, look)), layout="constrained")
        axes = figure.subplots()
        lanes = Lanes(axes, measured.attributes, look)
        ends = span(axes, table["measure"])
        for row in table[table["measure"].notna()].to_dict("records"):
            at = np.clip(row["measure"], *ends)
            axes.plot(at, lanes.y(row["attribute"], row["start"]), **look.point(row["start"]))
        axes.set_xlabel("√(max vᵀHv / m), v: the way from the start to the trained weights")
        legend(figure, look)
    return figure


def distances(measured: Measured) -> str:
    """Whose Hessian distance is lowest, and whether the bound says the same; or which command measures it."""
    if DISTANCE not in measured.tables:
        command = measured.about.get("command", "python -m analysis.bound --init all")
        return f"The Hessian distance was not measured: `{command} --finetune` trains the segmenters and measures it."
    wide = measured.wide(DISTANCE, "measure").dropna(how="all")
    if wide.empty:
        return "bound_distance.csv has no rows of these attributes."
    if len(measured.starts) == 1:
        return f"{measured.starts[0]}'s measure is {between(wide.to_numpy())}."
    best, bound = wide.idxmin(axis=1), measured.wide("bound", "bound").replace(np.inf, np.nan).dropna(how="all")
    most = best.value_counts()
    same = int((best == bound.idxmin(axis=1).reindex(best.index)).sum())
    return (
        f"The Hessian distance is lowest for {most.index[0]} on {most.iloc[0]} of {counted(len(best), 'attribute')}; "
        f"it names the same start as the bound on {same} of {len(best)}."
    )


def second_opinion(measured: Measured) -> Html:
    """The Hessian distance with its sentence, or the command that measures it."""
    if DISTANCE not in measured.tables:
        return html.sentence(distances(measured))
    alt = "Hessian distance of the segmenters trained from every start, per attribute."
    return html.figure(distance(measured), alt, distances(measured), caption(measured))

"""Figure 7 in a terminal: one block per attribute, why the bounds differ, and what the theorem assumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.measure.sample import Question
from analysis.measure.starts import Scene
from analysis.tables.words import counted, listed
from tatl.names import AVERAGE
from tatl.studies.settings import comma_list


def figure7(scene: Scene, question: Question, tolerance: float, made: dict[str, pd.DataFrame], notes: list[str]) -> str:
    """All that is said of a comparison's tables (`made`, by the names of their files)."""
    table, anatomy = made["bound"], made["bound_anatomy"]
    parts = [
        setting(scene, question, int(table["images"].max()), int(table["seeds"].max()), tolerance),
        blocks(table, str(anatomy["reference"].iloc[0])),
        factors(anatomy),
        "\n".join(reasons(anatomy)),
        second_opinion(made["bound_distance"]) if "bound_distance" in made else "",
        "\n  ".join(["The theorem assumes", *assumptions(made["bound_audit"])]),
        "\n".join(f"note: {note}" for note in dict.fromkeys(notes)),
    ]
    return "\n\n".join(part for part in parts if part)


def scene_of(scene: Scene, seeds: Sequence[int] = ()) -> str:
    """The store, the source domain, the networks, the fold, the seeds, and how the statistics came about."""
    store, settings = scene.store, scene.planner.settings
    enriched = ", rare attributes enriched" if store.source.get("enrich") else ""
    statistics = (
        f"BatchNorm statistics of every start estimated on {settings.calibration or 'the first'} training images"
        if scene.calibrate
        else "BatchNorm statistics as the start has them (placeholders where it is untrained)"
    )
    return (
        f"{store.source['data']}, {len(store)} cases at {store.size}{enriched} (store {store.name}), source domain "
        f"{settings.source}, {scene.shape} {settings.backbone}, fold {scene.fold} of {settings.n_folds}, seed "
        f"{listed(seeds or [scene.seed])}, {'crops' if scene.crop else 'whole images'}, {statistics}"
    )


def setting(scene: Scene, question: Question, images: int, seeds: int, tolerance: float) -> str:
    """What every row of the table shares, and how it is read."""
    few, shared = f"{images} of {len(scene.train())}", scene_of(scene, scene.planner.settings.seed_numbers)
    chosen = {"all": f"all {images}", "positive": "the positive"}.get(question.images, few)
    return (
        f"{shared}: {chosen} training images, K = {question.sources}, c = {question.c:g}, eigenvalues to a "
        f"relative residual of {tolerance:g}.\nEq. 6 stands inside an O(.): read ratios, not values. A row is of the "
        f"network with the median bound of {counted(seeds, 'seed')}; 'seeds' is the range over all of them, 'images' "
        "where 95 % of the resamples of its images lie (a spread, not a confidence interval)."
    )


def blocks(table: pd.DataFrame, reference: str) -> str:
    """The numbers of every attribute, starts below each other, led by their ratios to the reference."""
    several = table["start"].nunique() > 1
    return "\n\n".join(
        f"{str(attribute).replace('_', ' ')}\n{_block(part, reference if several else '')}"
        for attribute, part in table.groupby("attribute", sort=False)
    )


def _block(part: pd.DataFrame, reference: str) -> str:
    columns: dict[str, list[str]] = {"start": list(part["start"])}
    whole = part["attribute"].iloc[0] != AVERAGE
    if reference:
        columns[f"times {reference}"] = [_bound(value) for value in part["ratio"]]
        columns |= {"seeds": _span(part, "ratio_seeds"), "images": _span(part, "ratio_images")}
        columns["lowest in"] = [f"{value:.0%}" for value in part["lowest"]]
    columns["bound"] = [_bound(value) for value in part["bound"]]
    columns |= {"its seeds": _span(part, "bound_seeds"), "its images": _span(part, "bound_images")}
    columns["slack of m"] = [_bound(value) for value in part["bound_slack_m"]]
    columns["risk"] = [f"{value:.3f}" for value in part["risk"]]
    columns["mean norm"] = [_number(value) for value in part["curvature"]]
    if whole:
        columns["median"] = [_number(value) for value in part["curvature_median"]]
        columns["largest"] = [_number(value) for value in part["curvature_largest"]]
        columns["in float64"] = [_number(value) for value in part["curvature_largest_float64"]]
    columns["bound without it" if whole else "without largest"] = [_bound(v) for v in part["bound_without_largest"]]
    if whole:
        columns |= {"m": [f"{value:.0f}" for value in part["m"]], "n": [f"{value:.0f}" for value in part["images"]]}
        columns |= {title: [_number(v) for v in part[name]] for title, name in (("g", "g"), ("g-", "g_minus"))}
        slopes = zip(part["rising"].astype(bool), part["vacuous"].astype(bool), strict=True)
        columns["more g"] = ["-" if vacuous else "raises" if rising else "lowers" for rising, vacuous in slopes]
    columns["not converged"] = [f"{value:.0%}" for value in part["unconverged"]]
    return pd.DataFrame(columns).to_string(index=False)


def _span(part: pd.DataFrame, name: str) -> list[str]:
    ends = zip(part[f"{name}_low"], part[f"{name}_high"], strict=True)
    return [f"{_bound(low)} to {_bound(high)}" for low, high in ends]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _bound(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}" if np.isfinite(value) else "vacuous"


def reasons(anatomy: pd.DataFrame) -> list[str]:
    """Per attribute: which start is lowest, and against the reference, by how much through risk and curvature."""
    said = []
    for attribute, part in anatomy.groupby("attribute", sort=False):
        finite = part[np.isfinite(part["bound"])]
        if len(part) < 2:
            continue
        if finite.empty:
            said.append(f"{attribute}: every bound is vacuous.")
            continue
        best = finite.loc[finite["bound"].idxmin()]
        reference = best["reference"]
        sentence = f"{attribute}: lowest is {best['start']}"
        others = finite[(finite["start"] != reference) & finite["log_ratio"].notna()]
        parts = [
            f"{row['start']} {np.exp(row['log_ratio']):.2f} (risk {np.exp(row['by_risk']):.2f} x curvature "
            f"{np.exp(row['by_curvature']):.2f})"
            for _, row in others.iterrows()
        ]
        said.append(f"{sentence}; as multiples of {reference}: {listed(parts)}." if parts else f"{sentence}.")
    return said


def second_opinion(table: pd.DataFrame) -> str:
    """The Hessian distance of fine-tuned networks: the way they went, and the curvature along it."""
    lines = ["Hessian distance after fine-tuning (Ju, Li & Zhang 2022): v^T H v per training image, v = w - w_start"]
    for attribute, part in table.groupby("attribute", sort=False):
        columns = {"start": list(part["start"]), "m": [f"{m}" for m in part["m"]]}
        columns |= {
            title: [_number(value) for value in part[name]]
            for title, name in (("|v|", "length"), ("mean", "mean"), ("largest", "largest"), ("sqrt(max/m)", "measure"))
        }
        columns["negative"] = [f"{value:.0%}" for value in part["negative"]]
        lines.append(f"{str(attribute).replace('_', ' ')}\n{pd.DataFrame(columns).to_string(index=False)}")
    return "\n\n".join(lines)


def spectra(table: pd.DataFrame) -> str:
    """Trace and leading eigenvalues of every start and attribute."""
    columns: dict[str, list[str]] = {
        "attribute": [str(name).replace("_", " ") for name in table["attribute"]],
        "start": list(table["start"]),
        "loss": [f"{value:.3f}" for value in table["loss"]],
        "trace": [f"{_number(v)} +- {_number(e)}" for v, e in zip(table["trace"], table["trace_error"], strict=True)],
    }
    for name in [name for name in table.columns if name.startswith("top")]:
        columns[name.replace("top", "eigenvalue ")] = [_number(value) for value in table[name]]
    columns["converged"] = ["yes" if value else "no" for value in table["converged"]]
    return pd.DataFrame(columns).to_string(index=False)


def assumptions(audit: pd.DataFrame) -> list[str]:
    """One line per assumption and finding, the starts that share it named."""
    words = {"True": "holds", "False": "does not hold"}
    everyone = audit["start"].nunique()
    lines = []
    for name in audit["assumption"].unique():
        same = audit[audit["assumption"] == name]
        for found in same["found"].unique():
            part = same[same["found"] == found]
            whose = "" if len(part) == everyone else f" [{', '.join(part['start'])}]"
            lines.append(f"{name}: {words.get(str(part['holds'].iloc[0]), 'not known')}{whose}; {found}")
    return lines


def factors(anatomy: pd.DataFrame) -> str:
    """Eq. 6 taken apart: bound = stability x fit x candidates x sample, and the g at which it would be lowest."""
    names = ("stability", "fit", "candidates", "sample", "bound")
    columns: dict[str, list[str]] = {
        "attribute": [str(name).replace("_", " ") for name in anatomy["attribute"]], "start": list(anatomy["start"]),
        "g": [_number(value) for value in anatomy["g"]],
        "lowest at g": [_number(v) if np.isfinite(v) else "never" for v in anatomy["turns_at"]],
    }  # fmt: skip
    columns |= {name: [_number(v) if np.isfinite(v) else "-" for v in anatomy[name]] for name in names}
    return pd.DataFrame(columns).to_string(index=False)


def warnings(table: pd.DataFrame, scene: Scene, sources: int, tolerance: float) -> list[str]:
    """What a reader must not take these numbers for."""
    said = []
    if scene.store.source["data"] == "phantom":
        said.append("the phantom is not skin")
    if scene.planner.settings.source == "textures":
        said.append("textures is not ImageNet")
    single = table[table["attribute"] != AVERAGE]
    settings = scene.planner.settings
    first: dict[str, list] = {"shape": comma_list(settings.shapes), "fold": settings.fold_numbers}
    if several := [f"{name} {listed(values)}" for name, values in first.items() if len(values) > 1]:
        said.append(f"of {'; of '.join(several)} only the first is measured")
    if sources == 1:
        said.append("with one candidate source sqrt(log K) is 0, and so is every bound")
    double = single["curvature_largest_float64"]
    if open_ := int((~single["curvature_largest_converged"].astype(bool)).sum()):
        said.append(f"in {open_} of {len(single)} rows the largest norm did not converge in float64 either")
    if apart := int(((single["curvature_largest"] / double - 1).abs() > 2 * tolerance).sum()):
        said.append(
            f"in {apart} of {len(single)} rows the largest norm is another in float64, by more than twice the "
            "tolerance: look at both, and at the bound without it"
        )
    tailed = (single["curvature_largest"] > 0.5 * single["curvature"] * single["images"]).sum()
    if tailed:
        said.append(
            f"in {tailed} of {len(single)} rows one image alone makes more than half of the mean norm, which therefore "
            "moves with the choice of images"
        )
    return said

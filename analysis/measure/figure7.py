"""Figure 7: risk, curvature and bound of each start, per attribute, with what they rest on.

Images are training images of one fold, drawn without looking at them; risk and curvature are taken over the same
images, and resampled together, all starts, seeds and attributes on the same resamples.

A start is trained several times, from other seeds.  Its row is that of one of these networks, the one whose bound is
the median (the lower of two): every number of the row belongs to it.  Two spreads stand beside it, apart:

    *_seeds_low, *_seeds_high      the lowest and the highest of all seeds, on the same images
    *_images_low, *_images_high    where 95 % of the resamples of images lie, of this network

Neither is a confidence interval: norms are heavy-tailed, and no interval for their mean that assumes no law of theirs
comes near its level with so few (tests/test_bootstrap.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from analysis.curvature.evaluation import per_image_losses
from analysis.curvature.stability import bound, bounds
from analysis.measure.ledger import DOUBLE, image_loss
from analysis.measure.sample import Question, TrainingSample
from analysis.measure.solve import Curvatures
from analysis.measure.starts import StartNetwork
from analysis.tables.effect import percentiles, resampled
from tatl.data.batches import Feed
from tatl.names import AVERAGE


def measure(starts: Sequence[StartNetwork], chosen: dict[str, TrainingSample], curvatures: Curvatures) -> pd.DataFrame:
    """One row per start, seed, attribute and image: start, seed, attribute, index, image, positive, loss, norm, and the
    ledger's columns."""
    wanted = {name: sample.indices for name, sample in chosen.items()}
    losses = [
        np.concatenate([_losses(start, name, indices, curvatures.crew.here) for name, indices in wanted.items()])
        for start in starts
    ]
    tables = curvatures([start.subject for start in starts], wanted)
    for start, table, loss in zip(starts, tables, losses, strict=True):
        table.insert(0, "start", start.name)
        table.insert(1, "seed", start.seed)
        table.insert(6, "loss", loss)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(norm=table["value"].abs())


def _losses(start: StartNetwork, attribute: str, indices: np.ndarray, device: str) -> np.ndarray:
    """Loss of each image, on the device; an error names the start and the case."""
    subject = start.subject
    feed = partial(Feed(subject.store, attribute, subject.boxes), device=device)
    cases = subject.store.cases["id"]
    try:
        return per_image_losses(
            subject.model.to(device), feed, indices, image_loss,
            name=lambda index: f"start {start.name}, {attribute}, case {cases.iloc[index]}",
        )  # fmt: skip
    finally:
        subject.model.to("cpu")


def again(
    starts: Sequence[StartNetwork], measured: pd.DataFrame, table: pd.DataFrame, curvatures: Curvatures
) -> pd.DataFrame:
    """Of every row of `table` its largest norm, solved again in float64 with four times the products at most.

    Columns curvature_largest_float64 (NaN for the average over attributes) and curvature_largest_converged.
    """
    single = table[table["attribute"] != AVERAGE]
    wanted: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for start, seed, attribute in single[["start", "seed", "attribute"]].itertuples(index=False):
        part = _part(measured, start, attribute, seed)
        wanted.setdefault((start, seed), {})[attribute] = part["index"].to_numpy()[[part["norm"].argmax()]]
    subjects = [start.subject for key in wanted for start in starts if (start.name, start.seed) == key]
    longer = replace(curvatures.options, max_products=4 * curvatures.options.max_products)
    tables = replace(curvatures, options=longer, precision=DOUBLE, share=0.0)(subjects, list(wanted.values()))
    found = pd.concat({key: each.set_index("attribute") for key, each in zip(wanted, tables, strict=True)})
    double = found[["value", "converged"]].reindex(pd.MultiIndex.from_frame(table[["start", "seed", "attribute"]]))
    columns = {"float64": double["value"].abs(), "converged": double["converged"].ne(False)}
    return pd.DataFrame({f"curvature_largest_{name}": each.to_numpy() for name, each in columns.items()}, table.index)


def _part(measured: pd.DataFrame, start: str, attribute: str, seed: float) -> pd.DataFrame:
    same = (measured["start"] == start) & (measured["attribute"] == attribute) & (measured["seed"] == seed)
    return measured[same]


@dataclass(frozen=True)
class Seeds:
    """One start on one attribute, or on their average: a row per seed, and what its resamples have instead.

    `drawn` has the bound, and of one attribute risk and curvature: each [seeds, resamples].
    """

    table: pd.DataFrame
    drawn: dict[str, np.ndarray]

    @cached_property
    def at(self) -> int:
        """The place of the seed whose bound is the median; of two the lower."""
        return int(np.argsort(self.table["bound"].to_numpy(), kind="stable")[(len(self.table) - 1) // 2])

    @property
    def shown(self) -> pd.Series:
        return self.table.iloc[self.at]

    def paired(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Bounds [count] and those of resamples [count, resamples]; one seed stands beside each of several others."""
        places = np.arange(count) % len(self.table)
        return self.table["bound"].to_numpy()[places], self.drawn["bound"][places]


_Every = dict[tuple[str, str], Seeds]


def compared(
    measured: pd.DataFrame, chosen: dict[str, TrainingSample], question: Question, reference: str
) -> dict[str, pd.DataFrame]:
    """`bound`, one row per start and attribute, and `bound_seeds`, one per seed too; also of the average of several.

    Columns of `bound`: `seed`: of the network that the row is of, of `seeds` that were trained; `ratio`: its bound as a
    multiple of the reference's, whose seeds are taken in pairs; `curvature_median` and `curvature_largest` tell how
    much of the mean rests on few images, `bound_without_largest` what the bound would be without the largest;
    `curvature_error`: relative error of the mean, by the solver's own estimate; `bound_slack_m`: with the paper's
    slack, m^(-1/4) for n^(-1/4); `negative`: share of negative eigenvalues; `unconverged`: share of images whose solve
    did not converge; `rising`: more curvature would raise the bound; `lowest`: share of resamples, of images and of
    seeds, in which this start's bound is the lowest of those compared;
    `lowest_seeds`: of seeds alone.
    """
    names = measured["start"].unique()
    found: _Every = {
        (start, name): _seeds(measured, start, name, sample, question)
        for name, sample in chosen.items()
        for start in names
    }
    if len(chosen) > 1:
        found |= {(start, AVERAGE): _average([found[start, name] for name in chosen], start) for start in names}
    rows = [_row(found, start, name, reference) for start, name in found]
    each = [_each_seed(seeds, found[reference, name]) for (_, name), seeds in found.items()]
    return {"bound": pd.DataFrame(rows), "bound_seeds": pd.concat(each, ignore_index=True)}


def _seeds(measured: pd.DataFrame, start: str, name: str, sample: TrainingSample, question: Question) -> Seeds:
    n, picks = len(sample.indices), resampled(len(sample.indices))
    rows, draws = [], []
    for seed in measured["seed"][measured["start"] == start].unique():
        part = _part(measured, start, name, seed)
        loss, norm = part["loss"].to_numpy(), part["norm"].to_numpy()
        b = bound(loss.mean(), norm.mean(), sample.m, question.sources, question.c, n)
        draws.append((loss[picks].mean(axis=1), norm[picks].mean(axis=1)))
        rest = np.arange(n) != norm.argmax()
        without = bound(loss[rest].mean(), norm[rest].mean(), b.m, b.sources, b.c, n - 1).value if n > 1 else np.nan
        rows.append({
            "start": start, "attribute": name, "seed": seed, "m": b.m, "images": n,
            "positives": int(part["positive"].sum()), "risk": b.risk, "curvature": b.curvature,
            "curvature_median": float(np.median(norm)), "curvature_largest": float(norm.max()),
            "curvature_error": _error(part), "negative": float((part["value"] < 0).mean()),
            "g": b.g, "g_minus": b.g_minus, "g_plus": b.g_plus,
            "bound": b.value, "bound_without_largest": without,
            "bound_slack_m": bound(b.risk, b.curvature, b.m, b.sources, b.c).value,
            "vacuous": b.vacuous, "rising": b.rising, "unconverged": float(1 - part["converged"].mean()),
        })  # fmt: skip
    risks, norms = (np.stack(each) for each in zip(*draws, strict=True))
    drawn = bounds(risks, norms, sample.m, question.sources, question.c, n)
    return Seeds(pd.DataFrame(rows), {"risk": risks, "curvature": norms, "bound": drawn})


def _error(part: pd.DataFrame) -> float:
    """Estimated error of the mean norm, as a share of it: a Ritz value lies below its eigenvalue, so errors add up."""
    whole = part["norm"].sum()
    return float((part["error"] * part["norm"]).sum() / whole) if whole else 0.0


def _average(each: list[Seeds], start: str) -> Seeds:
    """Of each seed the mean over attributes."""
    names = ["risk", "curvature", "negative", "g", "bound", "bound_without_largest", "bound_slack_m", "unconverged"]
    tables = [one.table.set_index("seed") for one in each]
    mean = pd.concat([table[names] for table in tables]).groupby(level=0, sort=False).mean()
    vacuous = np.any([table["vacuous"] for table in tables], axis=0)
    table = mean.reset_index().assign(start=start, attribute=AVERAGE, vacuous=vacuous)
    return Seeds(table, {"bound": np.mean([one.drawn["bound"] for one in each], axis=0)})


def _row(found: _Every, start: str, name: str, reference: str) -> dict[str, Any]:
    """What is shown of a start, beside all starts on the same attribute."""
    seeds, own = found[start, name], found[reference, name]
    others = [each for (_, attribute), each in found.items() if attribute == name]
    count = max(len(each.table) for each in others)
    points, resamples = zip(*(each.paired(count) for each in others), strict=True)
    (value, drawn), (beside, _) = seeds.paired(count), own.paired(count)
    of_images = {name: each[seeds.at] for name, each in seeds.drawn.items()}
    return {
        **seeds.shown, "seeds": len(seeds.table),
        "ratio": _ratio(seeds.shown["bound"], own.shown["bound"]).item(),
        **_ends("ratio_seeds", _ratio(value, beside)),
        **_ends("ratio_images", _ratio(of_images["bound"], own.drawn["bound"][own.at]), percentiles),
        **{key: end for of, each in of_images.items() for key, end in _ends(f"{of}_images", each, percentiles).items()},
        **_ends("bound_seeds", value),
        "lowest": _lowest(drawn, np.stack(resamples)), "lowest_seeds": _lowest(value, np.stack(points)),
    }  # fmt: skip


def _each_seed(seeds: Seeds, own: Seeds) -> pd.DataFrame:
    """Every seed by itself: start, attribute, seed, risk, curvature, g, bound, and its ratio to the reference's."""
    beside, _ = own.paired(len(seeds.table))
    table = seeds.table[["start", "attribute", "seed", "risk", "curvature", "g", "bound"]]
    return table.assign(ratio=_ratio(table["bound"].to_numpy(), beside))


def _ratio(value: np.ndarray | float, beside: np.ndarray | float) -> np.ndarray:
    """NaN where either is vacuous, or both are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.divide(value, beside)
    return np.where(np.isfinite(value) & np.isfinite(beside), ratio, np.nan)


def _ends(
    name: str, values: np.ndarray, ends: Callable[[np.ndarray], tuple[float, float]] = lambda v: (v.min(), v.max())
) -> dict[str, float]:
    """The ends of the known values, by default the lowest and the highest."""
    known = values[~np.isnan(values)]
    low, high = ends(known) if len(known) else (np.nan, np.nan)
    return {f"{name}_low": low, f"{name}_high": high}


def _lowest(own: np.ndarray, stack: np.ndarray) -> float:
    """Share of cases in which `own` is the lowest of `stack`; a tie is shared, all vacuous counts for none."""
    least = (stack == stack.min(axis=0)) & np.isfinite(stack)
    return float((((own == stack.min(axis=0)) & np.isfinite(own)) / np.maximum(least.sum(axis=0), 1)).mean())

"""Figure 7: risk, curvature and bound of each start, per attribute, with what they rest on.

Images are training images of one fold, drawn without looking at them; risk and curvature are taken over the same
images, and resampled together, all starts and attributes on the same resamples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from analysis.bootstrap import interval, resampled
from analysis.bound import Bound, attribution, audit, bound, bounds, curve, lowest
from analysis.curvature import Options
from analysis.ledger import Places, curvatures, image_loss
from analysis.risk import ImageError, per_image_losses
from analysis.starts import Scene, Start
from tatl.data.feed import Feed

AVERAGE = "average"
C_GRID = tuple(10.0**k for k in np.arange(-6, 0.5, 0.5))
M_FACTORS = (0.25, 0.5, 1, 2, 4)
PAPER_M = 2594
POSITIVE, ALL = "positive", "all"
FEW = 12


@dataclass(frozen=True)
class Question:
    """What the bound is asked for: attributes, images ("all", "positive", a number, or as many as `FEW`), K, c."""

    attributes: tuple[str, ...]
    images: str = ""
    sources: int = 4
    c: float = 0.01

    def __post_init__(self) -> None:
        if self.images not in ("", ALL, POSITIVE) and not (self.images.isdigit() and int(self.images) > 0):
            raise ValueError(f"images {self.images!r} is unknown: give all, positive, or a number of images such as 32")
        bound(0.5, 1, 1, self.sources, self.c)  # refuses impossible K and c before anything is computed


@dataclass(frozen=True)
class Sample:
    """Of one attribute: the measured images (indices into the store), and m, the number they stand for."""

    indices: np.ndarray
    m: int


def samples(question: Question, scene: Scene) -> dict[str, Sample]:
    """The images of every attribute; ValueError where there are fewer than asked, or none.

    A number takes that many at random, the same for all attributes, nested: 32 are among the 64.
    """
    train = scene.train()
    order = np.random.default_rng(scene.seed).permutation(train)
    if question.images.isdigit() and int(question.images) > len(train):
        raise ValueError(
            f"{question.images} images are asked for and fold {scene.fold} of store {scene.store.name!r} has "
            f"{len(train)} training images: give --images all"
        )
    count = int(question.images) if question.images.isdigit() else len(train) if question.images else FEW
    chosen = {}
    for name in question.attributes:
        unknown = int((~scene.store.known(name)[train]).sum())
        if unknown:
            raise ValueError(
                f"{name} is unknown in {unknown} of {len(train)} training images of store {scene.store.name!r}: choose "
                "other --attribute"
            )
        if question.images == POSITIVE:
            positive = order[scene.store.present(name)[order]]
            if not len(positive):
                raise ValueError(
                    f"no training image of fold {scene.fold} of store {scene.store.name!r} has {name}, so m is 0: "
                    "choose other --attribute, or --images all"
                )
            chosen[name] = Sample(positive, len(positive))
        else:
            chosen[name] = Sample(order[:count], len(train))
    return chosen


def measure(
    starts: Sequence[Start],
    chosen: dict[str, Sample],
    options: Options,
    folder: Path,
    places: Places,
    progress: bool = True,
) -> pd.DataFrame:
    """One row per start, attribute and image: init, attribute, index, image, positive, loss, norm, and the ledger's."""
    wanted = {name: sample.indices for name, sample in chosen.items()}
    store = starts[0].subject.store
    positive = np.concatenate([store.present(name)[indices] for name, indices in wanted.items()])
    losses = [
        np.concatenate([_losses(start, name, indices, places.device) for name, indices in wanted.items()])
        for start in starts
    ]
    tables = curvatures([start.subject for start in starts], wanted, options, folder, places, progress)
    for start, table, loss in zip(starts, tables, losses, strict=True):
        table.insert(0, "init", start.name)
        table.insert(4, "positive", positive)
        table.insert(5, "loss", loss)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(norm=table["value"].abs())


def _losses(start: Start, attribute: str, indices: np.ndarray, device: str) -> np.ndarray:
    """Loss of each image, on the device; an error names the start and the case."""
    subject = start.subject
    feed = partial(Feed(subject.store, attribute, subject.boxes), device=device)
    try:
        return per_image_losses(subject.model.to(device), feed, indices, image_loss)
    except ImageError as error:
        case = subject.store.cases["id"].iloc[error.index]
        raise type(error)(f"start {start.name}, {attribute}, case {case}: {error}", error.index) from error
    finally:
        subject.model.to("cpu")


def figure7(measured: pd.DataFrame, chosen: dict[str, Sample], question: Question) -> pd.DataFrame:
    """One row per init and attribute, and the average over attributes.

    `curvature_median` and `curvature_largest` tell how much of the mean rests on few images; `*_low`, `*_high`: 95 %
    bootstrap interval over images; `negative`: share of negative eigenvalues; `unconverged`: share of images whose
    solve did not converge; `rising`: more curvature would raise the bound; `lowest`: share of resamples in which this
    start's bound is the lowest of those compared.
    """
    inits = list(measured["init"].unique())
    rows, draws = [], {}
    for name, sample in chosen.items():
        picks = resampled(len(sample.indices))
        for init in inits:
            part = measured[(measured["init"] == init) & (measured["attribute"] == name)]
            loss, norm = part["loss"].to_numpy(), part["norm"].to_numpy()
            b = bound(loss.mean(), norm.mean(), sample.m, question.sources, question.c)
            risks, norms = loss[picks].mean(axis=1), norm[picks].mean(axis=1)
            drawn = bounds(risks, norms, sample.m, question.sources, question.c)
            draws[init, name] = drawn
            rows.append({
                "init": init, "attribute": name, "m": sample.m, "images": len(part),
                "positives": int(part["positive"].sum()),
                "risk": b.risk, **_ends("risk", risks), "curvature": b.curvature, **_ends("curvature", norms),
                "curvature_median": float(np.median(norm)), "curvature_largest": float(norm.max()),
                "negative": float((part["value"] < 0).mean()), "g": b.g, "g_minus": b.g_minus, "g_plus": b.g_plus,
                "bound": b.value, **_ends("bound", drawn), "vacuous": b.vacuous, "rising": b.rising,
                "unconverged": float(1 - part["converged"].mean()),
            })  # fmt: skip
    table = pd.DataFrame(rows)
    for init in inits if len(chosen) > 1 else ():
        own = table[table["init"] == init]
        drawn = np.mean([draws[init, name] for name in chosen], axis=0)
        draws[init, AVERAGE] = drawn
        means = own[["risk", "curvature", "negative", "g", "bound", "unconverged"]].mean().to_dict()
        flags = {"vacuous": bool(own["vacuous"].any())}
        row = {"init": init, "attribute": AVERAGE, **means, **_ends("bound", drawn), **flags}
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
    table["lowest"] = [
        _lowest(draws, init, name, inits) for init, name in zip(table["init"], table["attribute"], strict=True)
    ]
    return table


def _ends(name: str, drawn: np.ndarray) -> dict[str, float]:
    low, high = interval(drawn)
    return {f"{name}_low": low, f"{name}_high": high}


def _lowest(draws: dict[tuple[str, str], np.ndarray], init: str, attribute: str, inits: Sequence[str]) -> float:
    """Share of resamples in which `init` has the lowest bound; a tie is shared, all vacuous counts for none."""
    stack = np.stack([draws[other, attribute] for other in inits])
    least = (stack == stack.min(axis=0)) & np.isfinite(stack)
    shares = least[inits.index(init)] / np.maximum(least.sum(axis=0), 1)
    return float(shares.mean())


def _bound_of(row: pd.Series, question: Question) -> Bound:
    return bound(row["risk"], row["curvature"], int(row["m"]), question.sources, question.c)


def anatomy(table: pd.DataFrame, question: Question, reference: str) -> pd.DataFrame:
    """The factors of Eq. 6 of each row, where the bound turns (g at its lowest), and its log ratio to the reference.

    `log_ratio` = log(bound / bound of the reference) = `by_risk` + `by_curvature`.
    """
    rows = []
    for _, row in _single(table).iterrows():
        b = _bound_of(row, question)
        other = table[(table["init"] == reference) & (table["attribute"] == row["attribute"])].iloc[0]
        parts = attribution(b, _bound_of(other, question))
        rows.append({
            "init": row["init"], "attribute": row["attribute"], "g": b.g, "exponent": b.exponent,
            "stability": b.stability, "fit": b.fit, "candidates": b.candidates, "sample": b.sample, "bound": b.value,
            "turns_at": lowest(b.risk, b.m, b.sources, b.c), "rising": b.rising, "reference": reference,
            "log_ratio": parts.total, "by_risk": parts.by_risk, "by_curvature": parts.by_curvature,
        })  # fmt: skip
    return pd.DataFrame(rows)


def curves(table: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Eq. 6 over g at the risk of each start: init, attribute, g, bound."""
    parts = []
    for _, row in _single(table).iterrows():
        g, value = curve(row["risk"], int(row["m"]), question.sources, question.c)
        parts.append(pd.DataFrame({"init": row["init"], "attribute": row["attribute"], "g": g, "bound": value}))
    return pd.concat(parts, ignore_index=True)


def sensitivity(
    table: pd.DataFrame, measured: pd.DataFrame, question: Question, positives: dict[str, int]
) -> pd.DataFrame:
    """The bound over c, over m, and over positive images alone (`positives`: how many the fold has, per attribute).

    Columns: varied (c, m, images), setting, init, attribute, bound (NaN where no measured image is positive), vacuous,
    rank among the starts (1: lowest).
    """
    rows = []

    def add(varied: str, setting: str | float, row: pd.Series, value: Bound) -> None:
        rows.append({
            "varied": varied, "setting": setting, "init": row["init"], "attribute": row["attribute"],
            "bound": value.value, "vacuous": value.vacuous,
        })  # fmt: skip

    for _, row in _single(table).iterrows():
        risk, curvature, m = row["risk"], row["curvature"], int(row["m"])
        for c in C_GRID:
            add("c", float(f"{c:.2e}"), row, bound(risk, curvature, m, question.sources, c))
        for other in sorted({max(1, round(m * factor)) for factor in M_FACTORS} | {PAPER_M}):
            add("m", other, row, bound(risk, curvature, other, question.sources, question.c))
        same = (measured["init"] == row["init"]) & (measured["attribute"] == row["attribute"])
        part = measured[same & measured["positive"]]
        add("images", "as measured", row, _bound_of(row, question))
        if len(part) and question.images != POSITIVE:
            m = positives[row["attribute"]]
            value = bound(part["loss"].mean(), part["norm"].mean(), m, question.sources, question.c)
            add("images", POSITIVE, row, value)
        elif question.images != POSITIVE:
            keys = {"init": row["init"], "attribute": row["attribute"]}
            rows.append({"varied": "images", "setting": POSITIVE, **keys, "bound": np.nan, "vacuous": False})
    frame = pd.DataFrame(rows)
    frame["rank"] = frame.groupby(["varied", "setting", "attribute"])["bound"].rank(method="min")
    return frame.assign(setting=frame["setting"].astype(str))


def audits(
    measured: pd.DataFrame, table: pd.DataFrame, starts: Sequence[Start], scene: Scene, c: float
) -> pd.DataFrame:
    """Which assumptions hold, per start: init, assumption, holds, found."""
    rows = []
    for start in starts:
        beta = float(measured.loc[measured["init"] == start.name, "norm"].max())
        m = int(table.loc[table["init"] == start.name, "m"].max())
        kinks = sum(isinstance(module, nn.ReLU | nn.LeakyReLU) for module in start.subject.model.modules())
        own = None if start.run is None else start.name not in ("random", "source")
        for each in audit(beta, m, c, scene.recipe(), kinks, own):
            rows.append({"init": start.name, **dataclasses.asdict(each)})
    return pd.DataFrame(rows).rename(columns={"name": "assumption"})


def _single(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["attribute"] != AVERAGE]

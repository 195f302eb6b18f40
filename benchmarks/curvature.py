"""Per-image spectral norms: the toolkit's engine beside PyHessian and curvlinops, and what a product costs.

    python benchmarks/curvature.py                                  two cores, an hour, most of it PyHessian's
    python benchmarks/curvature.py --images 2 --scales ""           the same in some minutes
    python benchmarks/curvature.py --device cuda --size 384x512 --images 8 --cases 300 --figure-7 200      on a GPU

A segmenter at the agnostic start of a drawn phantom (trained here once, kept under --runs), per backbone.  Prints
    product    gradient, our product, PyTorch's double backward, and on CUDA our product captured as graphs: medians
    profile    where the time of one of our products goes
    norms      all attributes of N images, each pair by every method in turn (ratios are of one time): the engine,
               PyHessian (one hessian object per pair, maxIter 100, tol 1e-3) and, where it is installed, curvlinops'
               Hessian with SciPy's eigsh (tol as the engine's): seconds, products, differences; then the engine as
               `analysis.bound` runs it (a process a core)
    scale      seconds per distinct (image, mask) pair and peak memory over 8, 16 and 32 images (before PyHessian)
    figure 7   with --figure-7 N: all starts over N images, and what 2594 would take
"""

from __future__ import annotations

import copy
import gc
import math
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pyhessian import hessian
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from analysis.curvature.graphs import Captured
from analysis.curvature.norms import Options, Solver, spectral_norms
from analysis.curvature.products import Hessians, flatten, unflatten
from analysis.measure.ledger import image_loss
from analysis.measure.solve import Curvatures
from analysis.measure.starts import StartNetwork, StartScene
from tatl import cli
from tatl.data.batches import Feed
from tatl.data.case import Size
from tatl.data.phantom.drawing import Phantom
from tatl.data.store import Store, prepare
from tatl.names import B0, BOUND_STARTS, LITE0
from tatl.studies.execution.crew import Crew
from tatl.studies.execution.machine import Machine
from tatl.studies.execution.schedule import execute
from tatl.studies.planner import Planner
from tatl.studies.settings import Settings, load_preset

FP32_PEAK = {"H200": 66.9e12, "H100": 66.9e12}  # FLOP/s without tensor cores, NVIDIA's data sheet (SXM)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(action: Callable[[], object], device: torch.device) -> float:
    started = now(device)
    action()
    return now(device) - started


def peak_memory() -> float:
    """Largest resident memory of this process and its children so far, GB."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(each).ru_maxrss for each in who) / 1e6


def pair(store: Store, attribute: str, index: int, device: torch.device) -> tuple[Tensor, Tensor]:
    image, mask = Feed(store, attribute)(np.array([index]), device)
    return image.contiguous(), mask


def products(model: nn.Module, image: Tensor, mask: Tensor, rounds: int, device: torch.device) -> None:
    """Gradient and products, interleaved in rounds; medians."""
    weights = list(model.parameters())

    def gradient() -> None:
        torch.autograd.grad(image_loss(model(image), mask).mean(), weights)

    made = torch.autograd.grad(image_loss(model(image), mask).mean(), weights, create_graph=True)
    ours = Hessians(model, image_loss).at(image, mask)
    v = torch.randn(len(ours.gradient), generator=torch.Generator(device).manual_seed(0), device=device)
    pieces = unflatten(v, weights)

    def stock() -> Tensor:
        return flatten(torch.autograd.grad(made, weights, pieces, retain_graph=True))

    actions: dict[str, Callable[[], object]] = {
        "gradient": gradient, "our product": lambda: ours(v), "stock double backward": stock,
    }  # fmt: skip
    if device.type == "cuda":
        captured = Captured(model, image_loss)
        replayed = [captured.at(image, mask)]  # the latest: a product is an error once there is a later one
        print(f"captured graphs: {captured.note or 'agree with the eager product'}")
        actions["gradient, captured"] = lambda: replayed.insert(0, captured.at(image, mask))
        actions["our product, captured"] = lambda: replayed[0](v)
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            seconds = timed(action, device)
            if turn:
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:24s} {1e3 * seconds:9.1f} ms   {seconds / medians['gradient']:5.2f} gradients")
    difference = float((ours(v) - stock()).norm() / stock().norm())
    print(f"our product differs from the stock one by {difference:.1e} of its length (float32)")
    used = "our product, captured" if device.type == "cuda" else "our product"
    _profile(lambda: ours(v), device, medians[used])


def backward_flop(g: list[int], x: list[int], w: list[int], *more: Any, out_shape: object = None, **_: object) -> int:
    """FLOP of the gradients of a convolution from its shapes: for input and weight each as many as it has itself.

    PyTorch's own counter takes the weight gradient of a grouped convolution for that of one group.
    """
    transposed, wanted = more[4], more[7]
    place = x if transposed else g
    return 2 * place[0] * math.prod(place[2:]) * math.prod(w) * sum(wanted[:2])


def _profile(action: Callable[[], object], device: torch.device, seconds: float) -> None:
    counts = {torch.ops.aten.convolution_backward: backward_flop}
    with FlopCounterMode(display=False, custom_mapping=counts) as counter:
        action()
    flop = counter.get_total_flops()
    peak = next((v for k, v in FP32_PEAK.items() if device.type == "cuda" and k in torch.cuda.get_device_name()), None)
    share = f", {flop / seconds / peak:.1%} of the card's fp32 ceiling" if peak else ""
    print(f"our product: {flop / 1e9:.1f} GFLOP, {flop / seconds / 1e9:.0f} GFLOP/s{share}")
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as trace:
        action()
        now(device)
    events = trace.key_averages()
    name = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    whole = sum(getattr(event, name) for event in events)
    print("where its time goes (share of self time, calls)")
    for event in sorted(events, key=lambda e: -getattr(e, name))[:8]:
        print(f"  {getattr(event, name) / whole:6.1%} {event.count:6d}  {event.key}")


Method = Callable[[Tensor, Tensor], tuple[float, int]]  # an image and a mask [1, ...] to |eigenvalue| and products


class Criterion(nn.Module):
    """The loss of one image as others ask for it."""

    reduction = "mean"

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        return image_loss(logits, masks).mean()


def by_engine(model: nn.Module, tolerance: float) -> Method:
    solver = Solver(model, image_loss, Options(tolerance=tolerance))

    def solve(image: Tensor, mask: Tensor) -> tuple[float, int]:
        found = solver(image[0], mask[0])
        return abs(found.value), found.products

    return solve


def by_pyhessian(model: nn.Module) -> Method:
    """Power iteration, one object per pair; it does not say how many products it took."""

    def solve(image: Tensor, mask: Tensor) -> tuple[float, int]:
        model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # create_graph=True in backward(): a reference cycle, collected below
            found, _ = hessian(model, Criterion(), data=(image, mask), cuda=image.is_cuda).eigenvalues(100, tol=1e-3)
        model.zero_grad(set_to_none=True)
        gc.collect()
        return abs(found[0]), 0

    return solve


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


def without_silu(model: nn.Module) -> nn.Module:
    """A copy whose SiLUs are made of simple operations: their kernel has no forward derivative, which it asks for."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.SiLU):
                setattr(module, name, Swish())
    return model


def by_curvlinops(model: nn.Module, tolerance: float) -> Method | None:
    """ARPACK on curvlinops' Hessian; None where the package is not there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            from curvlinops import HessianLinearOperator
    except ImportError as error:
        print(f"curvlinops-for-pytorch is not installed ({error}): pip install it to see it beside")
        return None
    model = without_silu(model)
    weights = [p for p in model.parameters() if p.requires_grad]

    def solve(image: Tensor, mask: Tensor) -> tuple[float, int]:
        made = HessianLinearOperator(model, Criterion(), weights, [(image, mask)], check_deterministic=False).to_scipy()
        taken: list[int] = []

        def product(v: np.ndarray) -> np.ndarray:
            taken.append(1)
            return made @ v.astype(made.dtype)

        start = np.random.default_rng(0).standard_normal(made.shape[0]).astype(made.dtype)
        counted = LinearOperator(made.shape, matvec=product, dtype=made.dtype)
        (value,) = eigsh(counted, 1, which="LM", v0=start, tol=tolerance, return_eigenvectors=False)
        return abs(float(value)), len(taken)

    return solve


def spread_out(start: StartNetwork, indices: np.ndarray, device: str) -> float:
    """Seconds of the toolkit's own way, a process a core or GPU, from an empty ledger."""
    wanted = {name: indices for name in start.subject.store.attributes}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        Curvatures(Options(), Path(folder), Crew(device), progress=False)([start.subject], wanted)
        return time.perf_counter() - started


def norms(start: StartNetwork, indices: np.ndarray, device: torch.device, pyhessian: bool) -> None:
    """Every method over all attributes of these images; seconds, of all cores' time too, against the engine's."""
    store, model = start.subject.store, start.subject.model
    pairs = [pair(store, name, int(i), device) for i in indices for name in store.attributes]
    methods: dict[str, Method | None] = {"engine": by_engine(model, 1e-2), "engine at 1e-4": by_engine(model, 1e-4)}
    methods |= {"curvlinops": by_curvlinops(model, 1e-2)} | ({"PyHessian": by_pyhessian(model)} if pyhessian else {})
    rows = []
    for name, method in methods.items():
        if name.startswith("engine") and method:
            method(*pairs[0])  # and what it checks before its first number
    for number, (image, mask) in enumerate(pairs):
        for name, method in methods.items():
            if method:
                began, busy = now(device), time.process_time()
                value, taken = method(image, mask)
                spent = now(device) - began, time.process_time() - busy
                rows.append((name, number, value, taken, *spent))
    table = pd.DataFrame(rows, columns=["method", "pair", "norm", "products", "seconds", "of cores"])
    truth = table[table["method"] == "engine at 1e-4"].set_index("pair")["norm"]
    table["off"] = (table["norm"] / table["pair"].map(truth) - 1).abs()
    each = table.groupby("method", sort=False)
    shown = each[["seconds", "of cores"]].sum()
    shown["times the engine's"] = shown["seconds"] / shown["seconds"]["engine"]
    shown = shown.join(each["products"].sum()).join(each["off"].agg(["median", "max"]).add_prefix("off by, "))
    print(f"{len(indices)} images x {len(store.attributes)} attributes = {len(pairs)} pairs, each solved by itself")
    print(shown.to_string(float_format="{:.3g}".format))
    seconds = spread_out(start, indices, device.type)
    print(f"as analysis.bound runs the engine, on all cores or GPUs, processes started: {seconds:.1f} s")


class Pairs:
    """The (image, mask) pairs of some images and all attributes, read one at a time: `images[k]` and `masks[k]`."""

    def __init__(self, store: Store, indices: np.ndarray, device: torch.device, which: int) -> None:
        self.store, self.device, self.which = store, device, which
        self.keys = [(name, int(i)) for i in indices for name in store.attributes]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, at: int) -> Tensor:
        if at >= len(self):
            raise IndexError(at)
        return pair(self.store, *self.keys[at], self.device)[self.which][0]


def scale(start: StartNetwork, device: torch.device, counts: tuple[int, ...], order: np.ndarray) -> None:
    store, model = start.subject.store, start.subject.model
    for count in counts:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        images, masks = (Pairs(store, order[:count], device, which) for which in (0, 1))
        started = now(device)
        found = spectral_norms(model, images, masks, image_loss)  # type: ignore[arg-type]
        seconds = now(device) - started
        memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else peak_memory()
        each = seconds / found.solves
        print(
            f"{count:3d} images  {found.solves:4d} distinct pairs  {each:6.2f} s a pair  peak {memory:5.2f} GB so far"
        )


def figure7(scene: StartScene, starts: list[StartNetwork], count: int, device: str) -> None:
    indices = np.random.default_rng(0).permutation(scene.train())[:count]
    if len(indices) < count:
        raise ValueError(f"{count} images are asked for and the fold has {len(indices)}: give --cases {count * 3 // 2}")
    seconds = sum(spread_out(start, indices, device) for start in starts)
    whole = seconds * 2594 / len(indices)
    print(f"Figure 7, {len(starts)} starts, {len(indices)} images: {seconds:.0f} s; 2594 images: {whole / 60:.0f} min")


def main(
    device: str = "cpu",
    backbones: str = f"{B0},{LITE0}",
    shape: str = "u",
    size: str = "96x128",
    cases: int = 60,
    images: int = 16,
    rounds: int = 7,
    scales: str = "8,16,32",
    figure_7: int = 0,
    pyhessian: bool = True,
    runs: Path = Path("runs"),
    store: Path | None = None,
) -> None:
    """Print what the module says.

    Args:
        device: cpu or cuda
        backbones: one after another, with commas
        shape: u or link
        size: HEIGHTxWIDTH of the phantom
        cases: phantom cases; the agnostic network is trained on four fifths of them
        images: images whose norms are compared
        rounds: repetitions of single products
        scales: numbers of images, with commas; empty: leave it out
        figure_7: images over which all four starts of Figure 7 are measured; 0: leave it out
        pyhessian: compare with PyHessian
        runs: folder of the trained start
        store: folder of the phantom; default stores/benchmark-curvature-<cases>-<size>
    """
    folder = store or Path(f"stores/benchmark-curvature-{cases}-{size}")
    # Figure 7 is extrapolated to the real frequencies of attributes, so then they are drawn.
    opened = prepare(Phantom(cases, seed=0, enrich=not figure_7), folder, Size.parse(size), progress=False)
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    for backbone in backbones.split(","):
        values = load_preset("quick").settings | {"shapes": shape, "backbone": backbone}
        values |= {"source": "textures"} if backbone == B0 else {}  # its ImageNet weights are on a hub
        scene = StartScene(Planner(Settings(**values), opened, device=device), runs, shape, 0, 0)
        data = f"agnostic start, {len(opened)} cases at {opened.size}"
        print(f"\n{shape} {backbone}, {data}, {where}, torch {torch.__version__}", flush=True)
        _measure(scene, torch.device(device), images, rounds, scales, figure_7, pyhessian)


def _measure(
    scene: StartScene, device: torch.device, images: int, rounds: int, scales: str, figure_7: int, pyhessian: bool
) -> None:
    store = scene.store
    names = [name for name in BOUND_STARTS if name != "random"] if figure_7 else ["tatl"]
    execute([run for name in names for run in scene.run(name).needs()], scene.root, store, Machine(device.type))
    starts = [scene.start(name) for name in names]
    start = next(start for start in starts if start.name == "tatl")
    start.subject.model.to(device)
    order = np.random.default_rng(0).permutation(scene.train())
    print("== product")
    products(start.subject.model, *pair(store, store.attributes[0], int(order[0]), device), rounds, device)
    if scales:
        print("== scale", flush=True)
        scale(start, device, tuple(map(int, scales.split(","))), order)
    print("== norms", flush=True)
    norms(start, order[:images], device, pyhessian)
    if figure_7:
        print("== figure 7", flush=True)
        figure7(scene, starts, figure_7, device.type)


if __name__ == "__main__":
    sys.exit(cli.script(main))

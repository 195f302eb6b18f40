"""What sharing a frozen encoder saves: five targets of one fold in training, and the full ensemble in prediction.

    python benchmarks/frozen.py                                            two cores, about ten minutes
    python benchmarks/frozen.py --device cuda --size 384x512 --cases 300   where a GPU is at hand

Training: five attributes of a drawn store (the phantom, not skin) from one agnostic network, each target through
`tatl.training.trainer`, its validation and test included, in three ways:
    shared    encoder frozen (tatl-freeze), its features kept: one pass over the images serves all five
    apart     the same, nothing kept
    trained   encoder trained too (tatl)
Prediction, on one image: Stage 1 (U), Stage 2 and five targets (U and Link) at random weights, with the encoders of
each shape equal (as TATL-Freeze leaves them) or not, beside the plain sum of the networks one by one.
Medians over rounds, in which the ways alternate.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tatl import cli
from tatl.data.case import Size
from tatl.data.phantom.drawing import Phantom
from tatl.data.store import Store, prepare
from tatl.models import Segmenter, build
from tatl.models.starts import seeded
from tatl.names import B0, LESION, UNION
from tatl.prediction.ensemble import Ensemble, share_encoders
from tatl.run import Recipe, Run
from tatl.training import frozen_features as features
from tatl.training.device import pick_device
from tatl.training.inference import infer
from tatl.training.trainer import fit

SHAPES = ("u", "link")
START = {"shared": "tatl-freeze", "apart": "tatl-freeze", "trained": "tatl"}


def medians(rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median seconds of each way; the ways alternate, so that what else the machine does hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(way())
    return {name: statistics.median(found) for name, found in seconds.items()}


def training(store: Store, network: tuple[str, str], recipe: Recipe, rounds: int, device: str, root: Path) -> None:
    """Print the seconds of five targets of a network (shape, backbone) in each of the three ways."""
    shape, backbone = network
    base = {"store": store.name, "digest": store.digest, "size": str(store.size), "shape": shape, "recipe": recipe}
    base["backbone"] = backbone
    agnostic = Run(**base, task=UNION, start="random", source="random")  # type: ignore[arg-type]
    fit(agnostic, root, store, device=device, progress=False)

    def five(way: str) -> float:
        features.release()
        started = time.perf_counter()
        for name in store.attributes:
            if way == "apart":
                features.release()
            run = Run(**base, task=name, start=START[way], source="random", parent=agnostic)  # type: ignore[arg-type]
            kept, features.ROOM = features.ROOM, features.ROOM if way == "shared" else 0
            fit(run, root, store, device=device, progress=False)
            features.ROOM = kept
            shutil.rmtree(run.folder(root))
        return time.perf_counter() - started

    found = medians(rounds, {way: lambda way=way: five(way) for way in START})  # type: ignore[misc]
    for way, seconds in found.items():
        print(f"  {shape:5} {way:8} {seconds:7.1f} s   {seconds / found['shared']:.2f} of shared")


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def ensemble(size: Size, attributes: tuple[str, ...], backbone: str, equal: bool, device: torch.device) -> Ensemble:
    """The full ensemble at random weights; with `equal` encoders, all of a shape are one."""
    seeds = iter(range(1000))

    def network(shape: str) -> Segmenter:
        model = seeded(lambda: build(shape, backbone), next(seeds)).to(device).to(memory_format=torch.channels_last)
        return model.eval()

    networks = {LESION: [network("u")]} | {name: [network(s) for s in SHAPES] for name in (UNION, *attributes)}
    if equal:
        for place in range(len(SHAPES)):
            first = networks[UNION][place].encoder
            for name in attributes:
                networks[name][place].encoder.load_state_dict(first.state_dict())
        share_encoders([model for models in networks.values() for model in models])
    return Ensemble(size, 40, networks, device)


def prediction(size: Size, attributes: tuple[str, ...], backbone: str, rounds: int, device: torch.device) -> None:
    """Print the seconds an image of the ensemble with and without shared encoders, and of its parts one by one."""
    shared, apart = (ensemble(size, attributes, backbone, equal, device) for equal in (True, False))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    frame = torch.randn(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)

    def parts() -> float:
        models = [model for each in apart.networks.values() for model in each]
        return sum(timed(lambda model=model: infer(model, frame), device) for model in models)  # type: ignore[misc]

    ways = {
        "shared": lambda: timed(lambda: shared(image, size), device),
        "apart": lambda: timed(lambda: apart(image, size), device),
        "sum of parts": parts,
    }
    medians(1, ways)  # warm up
    found = medians(rounds, ways)
    count = sum(len(models) for models in apart.networks.values())
    print(f"prediction, {count} networks at {size}, seconds an image:")
    for way, seconds in found.items():
        print(f"  {way:12} {seconds:7.2f} s   {seconds / found['shared']:.2f} of shared")


def main(
    size: str = "96x128",
    cases: int = 100,
    batch: int = 8,
    epochs: int = 3,
    rounds: int = 3,
    full: str = "384x512",
    device: str = "auto",
    shapes: str = "u,link",
    backbone: str = B0,
) -> None:
    """Train five targets and predict, with and without sharing what a frozen encoder makes.

    Args:
        size: HEIGHTxWIDTH of training
        cases: of the drawn store
        batch: images in a mini-batch
        epochs: of every network
        rounds: the medians are over so many
        full: HEIGHTxWIDTH of prediction
        device: auto, cpu or cuda
        shapes: whose training is measured, with commas
        backbone: of every network
    """
    place = pick_device(device)
    where = torch.cuda.get_device_name() if place.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    recipe = Recipe(epochs=epochs, patience=epochs, batch=batch, calibration=48)
    with tempfile.TemporaryDirectory() as name:
        phantom = Phantom(cases, seed=1, enrich=True)
        store = prepare(phantom, Path(name) / "store", Size.parse(size), progress=False)
        print(f"{where}\nfive targets, {cases} phantom cases at {size}, batch {batch}, {epochs} epochs:")
        for shape in shapes.split(","):
            training(store, (shape, backbone), recipe, rounds, device, Path(name) / "runs")
        prediction(Size.parse(full), store.attributes, backbone, rounds, place)


if __name__ == "__main__":
    sys.exit(cli.script(main))

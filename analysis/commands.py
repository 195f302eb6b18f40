"""What `python -m analysis.bound` does, as a plain function; its command line is generated from it."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from tatl import cli
from tatl.__main__ import asked_preset
from tatl.settings import Settings, load_preset, names

# torch takes seconds to import: the commands import what needs it, so that --help does not.


def bound(
    settings: Settings,
    init: list[str],
    store: Path | None = None,
    preset: str = "quick",
    runs: Path = Path("runs"),
    images: str = "32",
    c: float = 0.01,
    sources: int = 4,
    tolerance: float = 0.01,
    max_products: int = 64,
    method: str = "lanczos",
    calibrate: bool = True,
    crop: bool = False,
    tables: Path | None = None,
    device: str = "auto",
    workers: int = 0,
    imagenet_weights: Path | None = None,
) -> None:
    """Risk, curvature and the generalisation bound of starts (Eq. 6-8, Figure 7), per attribute.

    Example: python -m analysis.bound --init tatl source --images 64

    Args:
        init: starts: random, source, rotation, context, tatl, all of them (all), or files of weights
        store: folder written by prepare; without it the preset's phantom is made
        preset: quick, paper or smoke: the defaults of all that follows
        runs: folder of trained networks; what a start copies from is trained there if it is not
        images: how many training images of the fold (its first, as the seed is), all, or positive (those that have the
            attribute; m is then their number)
        c: of the step sizes c/t that the theorem is about
        sources: K, number of candidate starts
        tolerance: relative residual at which an eigenvalue is found
        max_products: Hessian-vector products at most per image and mask
        method: lanczos, or power (iteration, as in the paper)
        calibrate: estimate BatchNorm statistics of every start in one pass without masks
        crop: on the crop round the lesion (Stage 1) instead of whole images
        tables: folder for the tables; default reports/<preset>/tables
        device: auto, cpu or cuda
        workers: processes that share the images; 0: one a core, or a GPU
        imagenet_weights: file of EfficientNet-b0 weights (timm or torchvision naming, .safetensors or .pth)
    """
    from analysis import figure7, printout
    from analysis.curvature import Options
    from analysis.ledger import Places
    from analysis.starts import STARTS, Scene
    from tatl.commands import open_store
    from tatl.crop import grow, read_boxes
    from tatl.data.store import write_csv
    from tatl.fit import pick_device
    from tatl.record import provenance
    from tatl.run import write_atomically
    from tatl.study import Machine, execute
    from tatl.variants import Planner

    started = time.monotonic()
    question = figure7.Question(tuple(names(settings.attributes)), images, sources, c)
    options = Options(tolerance, max_products, settings.seed_numbers[0], method)
    places = Places(pick_device(device).type, workers)
    opened = open_store(store, preset)
    planner = Planner(settings, opened, imagenet_weights)
    question = figure7.Question(tuple(planner.attributes), images, sources, c)
    shape, fold, seed = names(settings.shapes)[0], settings.fold_numbers[0], settings.seed_numbers[0]
    scene = Scene(planner, runs, shape, fold, seed, crop, calibrate, imagenet_weights)
    chosen = figure7.samples(question, scene)
    inits = list(dict.fromkeys(each for word in init for each in (STARTS if word == "all" else names(word))))

    needed = [run for name in inits if name in STARTS for run in scene.run(name).needs()]
    cropper = planner.lesion(fold, seed) if crop else None
    execute([*needed, *([cropper] if cropper else [])], runs, opened, Machine(device, 1, imagenet_weights))
    boxes = grow(read_boxes(cropper.folder(runs)), settings.offset, opened.size) if cropper else None

    starts = [scene.start(name, boxes) for name in inits]
    measured = figure7.measure(starts, chosen, options, scene.folder, places)
    table = figure7.figure7(measured, chosen, question)
    positives = {name: int(opened.present(name)[scene.train()].sum()) for name in question.attributes}
    reference = "source" if "source" in inits else inits[0]
    anatomy = figure7.anatomy(table, question, reference)
    audit = figure7.audits(measured, table, starts, scene, c)
    measuring = {"data": opened.source["data"], "source": settings.source, "preset": preset, "shape": shape}
    measuring |= {"fold": fold, "seed": seed, "crop": crop, "calibrated": calibrate}
    made = {
        "bound": table.assign(**measuring),
        "bound_images": measured,
        "bound_anatomy": anatomy,
        "bound_curve": figure7.curves(table, question),
        "bound_sensitivity": figure7.sensitivity(table, measured, question, positives),
        "bound_audit": audit,
    }
    folder = tables or Path("reports") / preset / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in made.items():
        write_csv(frame, folder / f"{name}.csv")
    described = provenance("bound", preset, settings, opened, planner, inits, runs) | {
        "question": dataclasses.asdict(question),
        "options": dataclasses.asdict(options),
        **measuring,
        "subjects": {start.name: start.subject.name for start in starts},
        "notes": [note for start in starts for note in start.notes],
        "seconds": round(time.monotonic() - started, 1),
    }
    write_atomically(folder / "bound.json", json.dumps(described, indent=1) + "\n")

    print(printout.setting(scene, question, int(table["images"].max()), tolerance))
    print(f"\n{printout.blocks(table)}\n")
    for line in printout.reasons(anatomy):
        print(line)
    print("\nThe theorem assumes")
    for line in printout.assumptions(audit):
        print(f"  {line}")
    for note in [*described["notes"], *printout.warnings(table, scene)]:
        print(f"note: {note}")
    print(f"tables are in {folder}: {', '.join(f'{name}.csv' for name in made)}")


def parser_of(function: Callable[..., None], module: str, preset: str) -> ArgumentParser:
    """The command line of a function of `Settings`, its defaults those of the preset."""
    _, values = load_preset(preset)
    line = (function.__doc__ or "").partition("\n")[0].rstrip(".")
    parser = ArgumentParser(prog=f"python -m {module}", description=cli.describe(function, line))
    parser.add_argument("--init", nargs="+", default=["tatl"], help=_help(function, "init"))
    parser.add_function_arguments(function, skip={"settings", "init"}, as_group=False)
    parser.add_class_arguments(Settings, as_group=False)
    parser.set_defaults({**values, "preset": preset})
    cli.dashed(parser)
    parser._option_string_actions["--attribute"] = parser._option_string_actions["--attributes"]
    return parser


def _help(function: Callable[..., None], argument: str) -> str:
    """One argument's line of the docstring."""
    return (function.__doc__ or "").partition(f" {argument}: ")[2].partition("\n")[0]


def main(function: Callable[..., None], module: str, arguments: list[str] | None = None) -> int:
    """Parse the command line and call the function; a wrong input is one sentence and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def command() -> None:
        words = cli.spelled_out(arguments, cli.flags(Settings, function))
        given: dict[str, Any] = dict(vars(parser_of(function, module, asked_preset(words)).parse_args(words)))
        settings = Settings(**{k: given.pop(k) for k in list(given) if k in Settings.__dataclass_fields__})
        function(settings, **given)

    return cli.run(command, resumes=True)

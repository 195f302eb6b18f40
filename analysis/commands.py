"""What `python -m analysis.bound` and `analysis.spectrum` do, as plain functions; command lines are made from them."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from tatl import cli
from tatl.__main__ import asked_preset
from tatl.commands import tables_of
from tatl.settings import Settings, load_preset, names

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.starts import Scene, Start
    from tatl.schedule import Machine

# torch takes seconds to import: the commands import what needs it, so that --help does not.


def bound(
    settings: Settings,
    init: list[str],
    store: Path | None = None,
    preset: str = "quick",
    runs: Path = Path("runs"),
    images: str = "",
    c: float = 0.01,
    sources: int = 4,
    tolerance: float = 0.01,
    max_products: int = 64,
    method: str = "lanczos",
    finetune: bool = False,
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
            attribute; m is then their number); default 12, or all where there are fewer
        c: of the step sizes c/t that the theorem is about
        sources: K, number of candidate starts
        tolerance: relative residual at which an eigenvalue is found
        max_products: Hessian-vector products at most per image and mask
        method: lanczos, or power (iteration, as in the paper)
        finetune: also train every attribute's segmenter from every start, and print the Hessian distance it went
        calibrate: estimate BatchNorm statistics of every start in one pass without masks
        crop: on the crop round the lesion (Stage 1) instead of whole images
        tables: folder for the tables; default reports/<preset>/tables, or with a store reports/<store>-<preset>/tables
        device: auto, cpu or cuda
        workers: processes that share the images; 0: one a core, or a GPU
        imagenet_weights: file of EfficientNet-b0 weights (timm or torchvision naming, .safetensors or .pth)
    """
    from analysis import figure7, printout
    from analysis.curvature import Options
    from analysis.distance import distances, finetuned
    from analysis.ledger import Places
    from analysis.starts import STARTS
    from tatl.fit import pick_device
    from tatl.schedule import Machine, execute

    started = time.monotonic()
    question = figure7.Question(tuple(names(settings.attributes)), images, sources, c)
    options = Options(tolerance, max_products, settings.seed_numbers[0], method)
    places, machine = Places(pick_device(device).type, workers), Machine(device, 1, imagenet_weights)
    inits = _inits(init)
    scene = _scene(settings, store, preset, runs, crop, calibrate, imagenet_weights)
    question = dataclasses.replace(question, attributes=tuple(scene.planner.attributes))
    chosen = figure7.samples(question, scene)
    targets = finetuned(scene, [name for name in inits if name in STARTS], question.attributes) if finetune else {}

    starts = _starts(scene, inits, machine)
    measured = figure7.measure(starts, chosen, options, scene.folder, places)
    table = figure7.figure7(measured, chosen, question)
    positives = {name: int(scene.store.present(name)[scene.train()].sum()) for name in question.attributes}
    made = {
        "bound": table.assign(**_about(scene, preset)),
        "bound_images": measured,
        "bound_anatomy": figure7.anatomy(table, question, "source" if "source" in inits else inits[0]),
        "bound_curve": figure7.curves(table, question),
        "bound_sensitivity": figure7.sensitivity(table, measured, question, positives),
        "bound_audit": figure7.audits(measured, table, starts, scene, c),
    }
    if targets:
        execute(targets.values(), runs, scene.store, machine)
        made["bound_distance"] = distances(scene, targets, chosen, scene.boxes(), places.device)
    notes = [*(note for start in starts for note in start.notes), *printout.warnings(table, scene, sources)]
    folder = tables or tables_of(store, preset)
    more = {"question": dataclasses.asdict(question), "options": dataclasses.asdict(options), "notes": notes}
    _write(made, folder, "bound", _provenance("bound", preset, scene, starts, started) | more)

    print(printout.figure7(scene, question, tolerance, made, notes))
    print(f"tables are in {folder}: {', '.join(f'{name}.csv' for name in made)}")


def spectrum(
    settings: Settings,
    init: list[str],
    store: Path | None = None,
    preset: str = "quick",
    runs: Path = Path("runs"),
    images: str = "",
    probes: int = 4,
    steps: int = 24,
    products: int = 24,
    top: int = 5,
    tolerance: float = 0.01,
    chunk: int = 12,
    calibrate: bool = True,
    crop: bool = False,
    tables: Path | None = None,
    device: str = "auto",
    imagenet_weights: Path | None = None,
) -> None:
    """The Hessian spectrum of starts: density, trace and leading eigenvalues of the mean loss over images.

    Example: python -m analysis.spectrum --init tatl source --attribute streaks

    Args:
        init: starts: random, source, rotation, context, tatl, all of them (all), or files of weights
        store: folder written by prepare; without it the preset's phantom is made
        preset: quick, paper or smoke: the defaults of all that follows
        runs: folder of trained networks; what a start copies from is trained there if it is not
        images: how many training images of the fold (its first, as the seed is) the mean loss is over, all, or positive
            (those that have the attribute); default 12, or all where there are fewer
        probes: random starts of the density; its error bars come from their spread
        steps: Hessian-vector products per probe
        products: Hessian-vector products of the trace
        top: how many leading eigenvalues
        tolerance: relative residual at which these are found
        chunk: images that pass through the network at once
        calibrate: estimate BatchNorm statistics of every start in one pass without masks
        crop: on the crop round the lesion (Stage 1) instead of whole images
        tables: folder for the tables; default reports/<preset>/tables, or with a store reports/<store>-<preset>/tables
        device: auto, cpu or cuda
        imagenet_weights: file of EfficientNet-b0 weights (timm or torchvision naming, .safetensors or .pth)
    """
    from analysis import figure7, landscape, printout
    from tatl.fit import pick_device
    from tatl.schedule import Machine

    started = time.monotonic()
    options = landscape.Options(probes, steps, products, top, tolerance, chunk, settings.seed_numbers[0])
    place, inits = pick_device(device), _inits(init)
    scene = _scene(settings, store, preset, runs, crop, calibrate, imagenet_weights)
    chosen = figure7.samples(figure7.Question(tuple(scene.planner.attributes), images), scene)
    starts = _starts(scene, inits, Machine(device, 1, imagenet_weights))
    made = landscape.landscapes(starts, chosen, options, place)
    folder = tables or tables_of(store, preset)
    made["spectrum"] = made["spectrum"].assign(**_about(scene, preset))
    _write(made, folder, "spectrum", _provenance("spectrum", preset, scene, starts, started) | vars(options))
    count = int(made["spectrum"]["images"].max())
    print(f"{printout.scene_of(scene)}: mean loss over {count} of {len(scene.train())} training images.")
    print(f"\n{printout.spectra(made['spectrum'])}\n")
    print(f"tables are in {folder}: {', '.join(f'{name}.csv' for name in made)}")


def _scene(
    settings: Settings,
    store: Path | None,
    preset: str,
    runs: Path,
    crop: bool,
    calibrate: bool,
    imagenet_weights: Path | None,
) -> Scene:
    """What the starts share: the store, and the first shape, fold and seed of the settings."""
    from analysis.starts import Scene
    from tatl.commands import open_store
    from tatl.variants import Planner

    planner = Planner(settings, open_store(store, preset), imagenet_weights)
    shape, fold, seed = names(settings.shapes)[0], settings.fold_numbers[0], settings.seed_numbers[0]
    return Scene(planner, runs, shape, fold, seed, crop, calibrate, imagenet_weights)


def _inits(words: list[str]) -> list[str]:
    """The starts asked for, each once; FileNotFoundError for what is no start and no file."""
    from analysis.starts import STARTS

    inits = list(dict.fromkeys(each for word in words for each in (STARTS if word == "all" else names(word))))
    for name in inits:
        if name not in STARTS and not Path(name).is_file():
            raise FileNotFoundError(f"start {name!r} is neither one of {', '.join(STARTS)} nor a file of weights")
    return inits


def _starts(scene: Scene, inits: list[str], machine: Machine) -> list[Start]:
    """Train what the starts copy from, if it is not there, and make them."""
    from analysis.starts import STARTS
    from tatl.schedule import execute

    for name in inits:
        if name not in STARTS:
            scene.check(Path(name))
    needed = [run for name in inits if name in STARTS for run in scene.run(name).needs()]
    cropper = scene.cropper()
    execute([*needed, *([cropper] if cropper else [])], scene.root, scene.store, machine)
    boxes = scene.boxes()
    return [scene.start(name, boxes) for name in inits]


def _about(scene: Scene, preset: str) -> dict[str, Any]:
    """What a row of a table must say to be quoted alone."""
    about = {"data": scene.store.source["data"], "source": scene.planner.settings.source, "preset": preset}
    about |= {"shape": scene.shape, "fold": scene.fold, "seed": scene.seed}
    return about | {"crop": scene.crop, "calibrated": scene.calibrate}


def _provenance(study: str, preset: str, scene: Scene, starts: list[Start], started: float) -> dict[str, Any]:
    from tatl.record import provenance

    inits = [start.name for start in starts]
    described = provenance(study, preset, scene.planner.settings, scene.store, scene.planner, inits, scene.root)
    subjects = {start.name: start.subject.name for start in starts}
    return described | _about(scene, preset) | {"subjects": subjects, "seconds": round(time.monotonic() - started, 1)}


def _write(made: dict[str, DataFrame], folder: Path, name: str, described: dict[str, Any]) -> None:
    """One CSV per table, and <name>.json, which says what they were made from."""
    from tatl.data.store import write_csv
    from tatl.run import write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    for table, frame in made.items():
        write_csv(frame, folder / f"{table}.csv")
    write_atomically(folder / f"{name}.json", json.dumps(described, indent=1) + "\n")


def parser_of(function: Callable[..., None], module: str, preset: str) -> ArgumentParser:
    """The command line of a function of `Settings`, its defaults those of the preset."""
    _, values = load_preset(preset)
    line = (function.__doc__ or "").partition("\n")[0].rstrip(".")
    parser = cli.parser(prog=f"python -m {module}", description=cli.describe(function, line))
    parser.add_argument("--init", nargs="+", default=["tatl"], help=_help(function, "init"))
    parser.add_function_arguments(function, skip={"settings", "init"}, as_group=False)
    parser.add_class_arguments(Settings, as_group=False)
    parser.set_defaults({**values, "preset": preset})
    return cli.dashed(parser)


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

    return cli.run(command, resumes=function is bound)

"""What `python -m analysis.bound` and `analysis.spectrum` do, as plain functions; command lines are made from them."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from analysis.measure.measurement import Measurement, Shared
from tatl import cli
from tatl.__main__ import asked_preset
from tatl.studies.settings import Settings, comma_list, load_preset

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from analysis.measure.landscape import Options as Effort
    from analysis.measure.sample import Question, Sample
    from analysis.measure.starts import Scene, Start

FEW = 12  # images of a spectrum

# torch takes seconds to import: the commands import what needs it, so that --help does not.


def bound(
    settings: Settings,
    shared: Shared,
    images: str = "",
    c: float = 0.01,
    sources: int = 4,
    tolerance: float = 0.01,
    max_products: int = 64,
    method: str = "lanczos",
    finetune: bool = False,
    workers: int = 0,
) -> None:
    """Risk, curvature and the generalisation bound of starts (Eq. 6-8, Figure 7), per attribute.

    Every start is made from each of --seeds and measured on the same images: training moves a bound about as far as the
    choice of images does (analysis.measure.sample says why three seeds and eight images).

    Example: python -m analysis.bound --init tatl source --images 64

    Args:
        images: how many training images of the fold (its first), the same for every start and seed, all, or positive
            (those that have the attribute; m is then their number); default 8, or all where there are fewer
        c: of the step sizes c/t that the theorem is about
        sources: K, number of candidate starts
        tolerance: relative residual at which an eigenvalue is found
        max_products: Hessian-vector products at most per image and mask
        method: lanczos, or power (iteration, as in the paper)
        finetune: also train every attribute's segmenter from each start of the first seed; print the Hessian distance
        workers: processes that share the images; 0: one a core, or a GPU
    """
    from analysis.curvature.norms import Options
    from analysis.measure import figure7, printout
    from analysis.measure.distance import finetuned
    from analysis.measure.ledger import Places
    from analysis.measure.sample import Question, samples
    from tatl.names import BOUND_STARTS
    from tatl.training.device import pick_device

    started = time.monotonic()
    question = Question(tuple(comma_list(settings.attributes)), images, sources, c)
    options = Options(tolerance, max_products, settings.seed_numbers[0], method)
    places, named = Places(pick_device(shared.device).type, workers), shared.names()
    scene = shared.scene(settings)
    question = dataclasses.replace(question, attributes=tuple(scene.planner.attributes))
    chosen = samples(question, scene)
    targets = (
        finetuned(scene, [name for name in named if name in BOUND_STARTS], question.attributes) if finetune else {}
    )

    measurement = Measurement("bound", shared, scene, started, settings.seed_numbers)
    starts = measurement.starts()
    measured = figure7.measure(starts, chosen, options, scene.folder, places)
    found, reference = figure7.every_seed(measured, chosen, question), "source" if "source" in named else named[0]
    table = figure7.figure7(found, reference)
    table = table.join(figure7.again(starts, measured, table, options, scene.folder, places))
    made = {"bound": table, "bound_seeds": figure7.seeds_of(found, reference), "bound_images": measured}
    made |= _behind(measured, table, question, reference, scene, starts)
    notes = [*(note for start in starts for note in start.notes), *printout.cautions(table, scene, sources, tolerance)]
    made["bound"] = table.assign(**{key: cell for key, cell in measurement.about().items() if key not in table})
    if targets:
        made["bound_distance"] = _distances(targets, measurement, chosen, places.device)
    more = {"question": dataclasses.asdict(question), "options": dataclasses.asdict(options), "notes": notes}
    measurement.write(made, starts, more)
    print(printout.bound_text(shared.folder, notes, finetune))
    print(measurement.farewell(made))


def _behind(
    measured: DataFrame, table: DataFrame, question: Question, reference: str, scene: Scene, starts: list[Start]
) -> dict[str, DataFrame]:
    """The tables of what the bounds rest on, by their names."""
    from analysis.measure import breakdown

    train = scene.train()
    positives = {name: int(scene.store.present(name)[train].sum()) for name in question.attributes}
    return {
        "bound_anatomy": breakdown.anatomy(table, question, reference),
        "bound_curve": breakdown.curves(table, question),
        "bound_sensitivity": breakdown.sensitivity(table, measured, question, positives),
        "bound_audit": breakdown.audits(measured, table, starts, scene, question.c),
    }


def _distances(targets: Any, measurement: Measurement, chosen: dict[str, Sample], device: str) -> DataFrame:
    """Train the segmenters, if they are not there, and measure how far they went from their starts."""
    from analysis.measure.distance import distances
    from tatl.studies.execution.schedule import execute

    scene = measurement.scene
    execute(targets.values(), scene.root, scene.store, measurement.shared.machine)
    return distances(scene, targets, chosen, scene.boxes(), device)


def spectrum(
    settings: Settings,
    shared: Shared,
    images: str = "",
    probes: int = 4,
    steps: int = 24,
    products: int = 24,
    top: int = 5,
    tolerance: float = 0.01,
    chunk: int = 12,
) -> None:
    """The Hessian spectrum of starts: density, trace and leading eigenvalues of the mean loss over images.

    Example: python -m analysis.spectrum --init tatl source --attribute streaks

    Args:
        images: how many training images of the fold (its first) the mean loss is over, all, or positive
            (those that have the attribute); default 12, or all where there are fewer
        probes: random starts of the density; its error bars come from their spread
        steps: Hessian-vector products per probe
        products: Hessian-vector products of the trace
        top: how many leading eigenvalues
        tolerance: relative residual at which these are found
        chunk: images that pass through the network at once; halved where memory runs out
    """
    from analysis.measure import landscape, printout
    from analysis.measure.sample import Question, samples
    from tatl.training.device import pick_device

    started = time.monotonic()
    options = landscape.Options(probes, steps, products, top, tolerance, chunk, settings.seed_numbers[0])
    place, _ = pick_device(shared.device), shared.names()
    scene = shared.scene(settings)
    chosen = samples(Question(tuple(scene.planner.attributes), images), scene, FEW)
    measurement = Measurement("spectrum", shared, scene, started)
    starts = measurement.starts()
    made, options = _landscapes(starts, chosen, options, place)
    made["spectrum"] = made["spectrum"].assign(**measurement.about())
    measurement.write(made, starts, vars(options))
    print(printout.spectrum_text(shared.folder))
    print(measurement.farewell(made))


def _landscapes(
    starts: list[Start], chosen: dict[str, Sample], options: Effort, device: torch.device
) -> tuple[dict[str, DataFrame], Effort]:
    """The tables of all starts, and the options that memory allowed: where it runs out the chunk is halved.

    A start that was measured is kept.  MemoryError where one image at a time is too much.
    """
    import pandas as pd

    from analysis.measure.landscape import landscapes

    parts: list[dict[str, DataFrame]] = []
    while len(parts) < len(starts):
        try:
            parts.append(landscapes([starts[len(parts)]], chosen, options, device))
            continue
        except (RuntimeError, MemoryError) as error:
            chunk = _smaller(options.chunk, chosen, error)
        print(f"note: memory ran out with {options.chunk} images at once: going on with {chunk}", file=sys.stderr)
        options = dataclasses.replace(options, chunk=chunk)
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}, options


def _smaller(chunk: int, chosen: dict[str, Sample], error: Exception) -> int:
    """Half as many images at once as there were; the error where it is another one, or where there was one image."""
    from analysis.curvature.evaluation import out_of_memory
    from analysis.measure.risk import ImageError

    at_once = min(chunk, max(len(sample.indices) for sample in chosen.values()))
    if isinstance(error, ImageError) or not out_of_memory(error):
        raise error
    if at_once == 1:
        raise MemoryError(
            "memory ran out with one image at a time: choose a smaller store (prepare --size), fewer --products, or "
            "another --device"
        ) from error
    return max(1, at_once // 2)


def parser_of(function: Callable[..., None], module: str, preset: str) -> ArgumentParser:
    """The command line of a function of `Settings`, its defaults those of the preset."""
    settings = load_preset(preset, module.rpartition(".")[2]).settings
    line = (function.__doc__ or "").partition("\n")[0].rstrip(".")
    parser = cli.parser(prog=f"python -m {module}", description=cli.describe(function, line))
    parser.add_argument("--init", "--start", dest="starts", nargs="+", default=["tatl"], help=_help(Shared, "starts"))
    parser.add_class_arguments(Shared, skip={"starts"}, as_group=False)
    parser.add_function_arguments(function, skip={"settings", "shared"}, as_group=False)
    parser.add_class_arguments(Settings, as_group=False)
    parser.set_defaults({**settings, "preset": preset})
    return cli.dashed(parser)


def _help(described: Callable[..., Any], argument: str) -> str:
    """One argument's line of the docstring."""
    return (described.__doc__ or "").partition(f" {argument}: ")[2].partition("\n")[0]


def main(function: Callable[..., None], module: str, arguments: list[str] | None = None) -> int:
    """Parse the command line and call the function; a wrong input is one sentence and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def command() -> None:
        words = cli.spelled_out(arguments, cli.flags(Settings, Shared, function))
        given: dict[str, Any] = dict(vars(parser_of(function, module, asked_preset(words)).parse_args(words)))
        settings, shared = (
            kind(**{k: given.pop(k) for k in list(given) if k in kind.__dataclass_fields__})
            for kind in (Settings, Shared)
        )
        function(settings, shared, **given)

    return cli.run(command, resumes=function is bound)

"""What `python -m analysis.bound` and `analysis.spectrum` do, as plain functions; command lines are made from them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from jsonargparse import ArgumentParser

from analysis.measure.measurement import Measurement, Shared
from tatl import cli
from tatl.__main__ import asked_preset
from tatl.studies.settings import Cluster, Settings, load_preset
from tatl.training.device import device_kind

if cli.MYPY:
    from pandas import DataFrame

    from analysis.curvature.norms import Options
    from analysis.measure.sample import Question, TrainingSample
    from analysis.measure.starts import StartNetwork

# torch takes seconds to import: the commands import what needs it, so that --help does not.

ERROR_SHARE = 0.0025  # of the mean norm: an error that no bound moves by


def measure_bound(
    settings: Settings,
    shared: Shared,
    images: str = "",
    c: float = 0.01,
    sources: int = 4,
    tolerance: float = 0.01,
    share: float = ERROR_SHARE,
    max_products: int = 64,
    method: str = "lanczos",
    finetune: bool = False,
    workers: int = 0,
    plan: bool = False,
) -> None:
    """Risk, curvature and the generalisation bound of starts (Eq. 6-8, Figure 7), per attribute and of each of --seeds.

    Example: python -m analysis.bound --init tatl source --images 64

    Args:
        images: how many training images of the fold (its first), the same for every start and seed, all, or positive
            (those that have the attribute; m is then their number); default 8, or all where there are fewer
        c: of the step sizes c/t that the theorem is about
        sources: K, number of candidate starts
        tolerance: relative residual at which an eigenvalue is found
        share: of the mean norm of an attribute's first images: an error at which an eigenvalue is found too; 0: none
        max_products: Hessian-vector products at most per image and mask
        method: lanczos, or power (iteration, as in the paper)
        finetune: also train every attribute's segmenter from each start of the first seed; print the Hessian distance
        workers: processes that share the images; 0: one a core, or a GPU
        plan: say what would be trained, how long it may take and its size on disk; write nothing
    """
    from analysis.measure.sample import Question

    question = Question(images, sources, c)
    if plan:
        measurement, _ = _opened("bound", settings, shared, question, settings.seed_numbers, write=False)
        return measurement.plan(measurement.scene.targets(shared.names() if finetune else []).values())
    from analysis.curvature.norms import Options
    from analysis.measure import printout
    from analysis.measure.breakdown import distances

    options = Options(tolerance, max_products, settings.seed_numbers[0], method)
    measurement, chosen = _opened("bound", settings, shared, question, settings.seed_numbers)
    starts = measurement.starts()
    made = _bound_tables(measurement, starts, question, chosen, options, share, workers)
    made |= {"bound_distance": distances(measurement.scene, shared.names(), chosen, shared.machine)} if finetune else {}
    notes = printout.cautions(starts, made["bound"], measurement.scene, sources, tolerance)
    more = {"question": asdict(question), "options": asdict(options) | {"share": share}, "notes": notes}
    measurement.write(made, starts, more, ["bound_distance"])
    print(printout.bound_text(shared.folder, notes, finetune), measurement.farewell(made), sep="\n")


def _opened(
    name: str, settings: Settings, shared: Shared, question: Question, seeds: Sequence[int] = (), write: bool = True
) -> tuple[Measurement, dict[str, TrainingSample]]:
    """What is measured, and the images of each attribute; what cannot be is refused before a store is made."""
    from analysis.measure.sample import samples

    device_kind(shared.device), shared.names()
    scene = shared.scene(settings, write)
    return Measurement(name, shared, scene, seeds), samples(question, scene)


def _bound_tables(
    measurement: Measurement,
    starts: list[StartNetwork],
    question: Question,
    chosen: dict[str, TrainingSample],
    options: Options,
    share: float,
    workers: int,
) -> dict[str, DataFrame]:
    """Figure 7 and what it rests on, by the names of the tables."""
    from analysis.measure import breakdown, figure7
    from analysis.measure.solve import Curvatures

    scene, named = measurement.scene, [start.name for start in starts]
    curvatures = Curvatures(options, scene.folder, measurement.shared.crew(workers), share=share)
    measured = figure7.measure(starts, chosen, curvatures)
    reference = "source" if "source" in named else named[0]
    made = figure7.compared(measured, chosen, question, reference) | {"bound_images": measured}
    table = made["bound"].join(figure7.again(starts, measured, made["bound"], curvatures))
    train = scene.train()
    positives = {name: int(scene.store.present(name)[train].sum()) for name in chosen}
    made |= breakdown.rests_on(table, measured, question, reference, positives)
    made["bound_audit"] = breakdown.audits(measured, table, starts, scene, question.c)
    about = {key: cell for key, cell in measurement.about().items() if key not in table}
    return made | {"bound": table.assign(**about)}


def measure_spectrum(
    settings: Settings,
    shared: Shared,
    images: str = "",
    probes: int = 4,
    steps: int = 24,
    products: int = 24,
    top: int = 5,
    tolerance: float = 0.01,
    chunk: int = 12,
    workers: int = 1,
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
        workers: processes that share the spectra; 0: one a core, or a GPU
    """
    from analysis.measure import printout
    from analysis.measure.landscape import Effort, landscapes
    from analysis.measure.sample import Question

    effort = Effort(probes, steps, products, top, tolerance, chunk, settings.seed_numbers[0])
    measurement, chosen = _opened("spectrum", settings, shared, Question(images, few=12))
    starts = measurement.starts()
    made, effort = landscapes(starts, chosen, effort, shared.crew(workers))
    made["spectrum"] = made["spectrum"].assign(**measurement.about())
    measurement.write(made, starts, vars(effort))
    print(printout.spectrum_text(shared.folder), measurement.farewell(made), sep="\n")


def parser_of(function: Callable[..., None], module: str, preset: str) -> ArgumentParser:
    """The command line of a function of `Settings`, its defaults those of the preset."""
    settings = load_preset(preset, module.rpartition(".")[2]).settings
    line = (function.__doc__ or "").partition("\n")[0].rstrip(".")
    parser = cli.parser(prog=f"python -m {module}", description=cli.describe(function, line))
    parser.add_argument("--init", "--start", dest="starts", nargs="+", default=["tatl"], help=_help(Shared, "starts"))
    parser.add_class_arguments(Shared, skip={"starts", "cluster"}, as_group=False)
    parser.add_class_arguments(Cluster, as_group=False)
    parser.add_function_arguments(function, skip={"settings", "shared"}, as_group=False)
    parser.add_class_arguments(Settings, as_group=False)
    parser.set_defaults({**settings, "preset": preset})
    return cli.dashed(parser)


def _help(described: Callable[..., Any], argument: str) -> str:
    """One argument's line of the docstring."""
    return (described.__doc__ or "").partition(f" {argument}: ")[2].partition("\n")[0]


def run_command(function: Callable[..., None], module: str, arguments: list[str] | None = None) -> int:
    """Parse the command line and call the function; a wrong input is one sentence and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def command() -> None:
        words = cli.spelled_out(arguments, cli.flags(Settings, Shared, Cluster, function))
        given: dict[str, Any] = dict(vars(parser_of(function, module, asked_preset(words)).parse_args(words)))
        settings, cluster, shared = (cli.picked(kind, given) for kind in (Settings, Cluster, Shared))
        function(settings, replace(shared, cluster=cluster), **given)

    return cli.run(command, resumes=function is not measure_spectrum)

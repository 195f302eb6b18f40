"""What `python -m analysis.stability` does, as a plain function; its command line is made from it."""

from __future__ import annotations

from dataclasses import asdict, replace

from analysis.measure.commands import ERROR_SHARE
from analysis.measure.measurement import Measurement, Shared
from tatl import cli
from tatl.studies.settings import Settings
from tatl.training.device import device_kind

if cli.MYPY:
    from pandas import DataFrame

    from analysis.measure.sample import Question
    from analysis.measure.stability.protocol import Cell, Protocol
    from analysis.measure.stability.recipe import Trained
    from analysis.measure.starts import StartNetwork
    from tatl.studies.execution.crew import Crew

# torch and pandas take seconds to import: the functions import what needs them, so that --help does not.


def measure_stability(
    settings: Settings,
    shared: Shared,
    c: str = ".1",
    shares: str = "30,60,100",
    forks: int = 0,
    images: int = 0,
    predictors: bool = False,
    recipe: bool = False,
    workers: int = 0,
    plan: bool = False,
) -> None:
    """Stability of one-pass SGD from starts (Definition 1), the gap it leaves and how far weights move, in each fold.

    Example: python -m analysis.stability --init all --attributes streaks,globules --c .01,.1,1 --predictors

    Args:
        c: of the step sizes c/t, numbers with commas; largest: of each attribute and fold the largest of 100, 31.6, 10
            .. .01 at which no start's pass diverges or ends with a higher risk
        shares: percent of the training images that passes are over, with commas
        forks: of the pass over most images, each with another image at one of its steps; at smaller shares those that
            lie there; 0: 16, or as many as there are held-out images
        images: training images at most; 0: all of the fold
        predictors: also measure what may predict stability (norms, on the images of analysis.bound), and rank it
        recipe: also of training as studies do it: what the target segmenters of all --folds and seeds lose on images
            that they were not trained on, against those that were
        workers: processes that share the passes; 0: one a core, or a GPU
        plan: say what would be trained, how many passes and steps, and how long they may take; write nothing
    """
    from analysis.measure.stability.protocol import Protocol, effort
    from analysis.measure.stability.recipe import trainings

    protocol, scene = Protocol(c, shares, forks, images), shared.scene(settings, not plan)
    splits = [
        Measurement("stability", shared, replace(scene, fold=fold), settings.seed_numbers, "stability")
        for fold in settings.fold_numbers
    ]
    drawn = [protocol.cells(each.scene, each.seed_of_each()) for each in splits]
    targets = trainings(scene, shared.names(), settings.seed_numbers) if recipe else []
    if recipe and not targets:
        print("note: no attribute can be trained in all of the folds, so that the recipe is left out: give --folds")
    if not plan:
        return _measure(protocol, splits, drawn, targets, shared.crew(workers), predictors)
    from tatl.studies.conduct import devices_of
    from tatl.studies.execution.crew import Crew

    splits[0].plan([target.run for target in targets], splits[1:])
    cells, device = [cell for of_fold in drawn for cell in of_fold], device_kind(shared.device)
    (at_once,) = devices_of(shared.machine).get("counts") or [Crew(device, workers).at_once]
    print(effort(protocol, scene, cells, device, at_once, predictors))


def _measure(
    protocol: Protocol, splits: list[Measurement], drawn: list[list[tuple[int, Cell]]], targets: list[Trained],
    crew: Crew, predictors: bool,
) -> None:  # fmt: skip
    """Take the passes of every fold, write the tables and print what they tell."""
    import pandas as pd

    from analysis.measure.sample import Question
    from analysis.measure.stability.recipe import recipe_tables
    from analysis.measure.stability.tables import measured, stability_text
    from analysis.tables.bound.stability import STABILITY_COLUMNS, ranks_text, stability_ranks
    from analysis.tables.words import listed

    question, starts, found = Question(), [], []
    for split, cells in zip(splits, drawn, strict=True):
        of_fold = split.starts()
        tables = measured(protocol, cells, of_fold, split.scene, crew)
        if predictors:
            tables["stability_predictors"] = _predictors(split, of_fold, question, crew)
        found.append({name: table.assign(fold=split.scene.fold) for name, table in tables.items()})
        starts += of_fold
    made = {name: pd.concat([tables[name] for tables in found], ignore_index=True) for name in found[0]}
    about = splits[0].about()
    made["stability"] = made["stability"].assign(**{key: about[key] for key in about if key not in made["stability"]})
    if targets:
        of_all = {key: value for key, value in about.items() if key not in ("fold", "seed", "calibrated")}
        made |= recipe_tables(splits[0].scene, targets, splits[0].shared.machine, of_all)
    if predictors:
        made["stability_ranks"] = stability_ranks(*(made[name] for name in STABILITY_COLUMNS))
    folds = [split.scene.fold for split in splits]
    asked = {"question": asdict(question), **asdict(protocol), "fold": listed(folds) if folds[1:] else folds[0]}
    splits[0].write(made, starts, asked, ["stability_predictors", "stability_ranks", "stability_recipe"])
    ranks = [ranks_text(made["stability_ranks"])] if predictors else []
    print(stability_text(made), *ranks, splits[0].farewell(made), sep="\n\n")


def _predictors(split: Measurement, starts: list[StartNetwork], question: Question, crew: Crew) -> DataFrame:
    """What may predict the stability of the starts of a fold."""
    from analysis.curvature.norms import Options
    from analysis.measure.sample import samples
    from analysis.measure.solve import Curvatures
    from analysis.measure.stability.predictors import predictors

    scene = split.scene
    curvatures = Curvatures(Options(seed=scene.seed), scene.folder, crew, share=ERROR_SHARE)
    return predictors(starts, samples(question, scene), curvatures, scene)

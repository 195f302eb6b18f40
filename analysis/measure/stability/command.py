"""What `python -m analysis.stability` does, as a plain function; its command line is made from it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from analysis.measure.measurement import Measurement, Shared
from tatl.studies.settings import Settings
from tatl.training.device import device_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.measure.stability.protocol import Cell, Protocol
    from analysis.measure.stability.recipe import Trained
    from analysis.measure.starts import StartScene

# torch and pandas take seconds to import: the functions import what needs them, so that --help does not.


def measure_stability(
    settings: Settings,
    shared: Shared,
    c: str = "1",
    shares: str = "30,60,100",
    forks: int = 16,
    images: int = 0,
    recipe: bool = False,
    workers: int = 0,
    plan: bool = False,
) -> None:
    """On-average stability of one-pass SGD from starts (Definition 1), the gap it leaves, and how far weights move.

    Example: python -m analysis.stability --init all --attributes streaks,globules --c .1,1

    Args:
        c: of the step sizes c/t, numbers with commas; largest: the largest of 100, 31.6, 10 .. .01 at which no start's
            pass diverges or ends with a higher risk
        shares: percent of the training images that passes are over, with commas
        forks: of the pass over most images, each with another image at one of its steps; at smaller shares those that
            lie there
        images: training images at most; 0: all of the fold
        recipe: also of training as studies do it: what the target segmenters of all --folds and seeds lose on images
            that they were not trained on, against those that were
        workers: processes that share the passes; 0: one a core
        plan: say what would be trained, how many passes and steps, and how long they may take; write nothing
    """
    from analysis.measure.stability.protocol import Protocol

    protocol = Protocol(c, shares, forks, images)
    device = device_kind(shared.device)
    measurement = Measurement("stability", shared, shared.scene(settings, not plan), settings.seed_numbers)
    scene, names = measurement.scene, shared.names()
    drawn = protocol.cells(scene, measurement.seed_of_each())
    targets = _targets(scene, names, settings) if recipe else []
    if plan:
        from analysis.measure.stability.effort import effort

        measurement.plan(target.run for target in targets)
        return print(effort(protocol, scene, drawn, device, workers))
    _measure(protocol, measurement, drawn, targets, workers)


def _measure(
    protocol: Protocol, measurement: Measurement, drawn: list[tuple[int, Cell]], targets: list[Trained], workers: int
) -> None:
    """Take the passes, write the tables and print what they tell."""
    from analysis.measure.stability.passes import Passes
    from analysis.measure.stability.tables import measured, stability_text

    scene, shared, starts = measurement.scene, measurement.shared, measurement.starts()
    folder, device = scene.root / scene.store.name / "stability", device_kind(shared.device)
    made = measured(protocol, drawn, starts, Passes([start.subject for start in starts], folder, device, workers))
    if targets:
        from analysis.measure.stability.recipe import recipe_tables

        made |= recipe_tables(scene, targets, shared.machine)
    about = measurement.about()
    for name in {"stability", "stability_recipe"} & set(made):
        made[name] = made[name].assign(**{key: value for key, value in about.items() if key not in made[name]})
    measurement.write(made, starts, {"protocol": dataclasses.asdict(protocol)})
    print(stability_text(made), measurement.farewell(made), sep="\n")


def _targets(scene: StartScene, names: Sequence[str], settings: Settings) -> list[Trained]:
    from analysis.measure.stability.recipe import trainings

    return trainings(scene, names, settings.seed_numbers)

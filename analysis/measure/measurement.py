"""What `analysis.bound`, `analysis.spectrum` and `analysis.stability` share.

Options, the starts that they measure, and how tables are kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tatl import cli
from tatl.names import BOUND_STARTS
from tatl.run import Run, write_atomically
from tatl.studies.execution.machine import Machine
from tatl.studies.settings import Cluster, Settings, Where, comma_list

if cli.MYPY:
    from pandas import DataFrame

    from analysis.measure.starts import StartNetwork, StartScene
    from tatl.studies.execution.crew import Crew

# pandas and torch take seconds to import: the functions import what needs them, so that --help does not.


@dataclass(frozen=True)
class Shared(Where):
    """Which starts are measured, on what, and where.

    Args:
        store: folder written by prepare; without it the preset's phantom is made
        preset: quick, paper or smoke: the defaults of all that follows, which --help shows for the preset beside it
        runs: folder of trained networks; what a start copies from is trained there if it is not
        device: auto, cpu or cuda
        imagenet_weights: file of the backbone's ImageNet weights, .safetensors or .pth, as torchvision, timm or
            segmentation-models-pytorch save it, or a folder of them, each called by its backbone (resnet152.pth)
        starts: random, source, rotation, context, tatl, all of them (all), or files of weights
        calibrate: estimate BatchNorm statistics of every start in one pass without masks
        crop: on the crop round the lesion (Stage 1) instead of whole images
        tables: folder for the tables; default reports/<preset>/tables, or with a store reports/<store>-<preset>/tables
    """

    starts: list[str] = field(default_factory=lambda: ["tatl"])
    calibrate: bool = True
    crop: bool = False
    tables: Path | None = None
    cluster: Cluster = field(default_factory=Cluster)

    @property
    def machine(self) -> Machine:
        """What trains the runs that a start copies from."""
        return Machine(self.device, self.imagenet_weights, workers=0, cluster=self.cluster)

    def crew(self, workers: int) -> Crew:
        """Who measures, on this machine so many at once (0: as it has room for)."""
        from tatl.studies.execution.crew import Crew

        return Crew.of(self.device, workers, self.cluster)

    @property
    def folder(self) -> Path:
        """Where the tables go."""
        from tatl.studies.places import tables_of

        return self.tables or tables_of(self.store, self.preset)

    def names(self) -> list[str]:
        """The starts asked for, each once; FileNotFoundError for what is no start and no file."""
        words = [each for word in self.starts for each in (BOUND_STARTS if word == "all" else comma_list(word))]
        for name in words:
            if name not in BOUND_STARTS and not Path(name).is_file():
                known = ", ".join(BOUND_STARTS)
                raise FileNotFoundError(f"start {name!r} is neither one of {known} nor a file of weights")
        return list(dict.fromkeys(words))

    def scene(self, settings: Settings, write: bool = True) -> StartScene:
        """What the starts share: the store (outlined alone, unless `write`), and the first shape, fold and seed."""
        from analysis.measure.starts import StartScene
        from tatl.studies.planner import Planner

        if self.cluster.on:
            self.crew(0)  # what cannot be had is refused before a phantom is prepared
        planner = Planner.of(settings, self, write)
        shape, fold, seed = comma_list(settings.shapes)[0], settings.fold_numbers[0], settings.seed_numbers[0]
        return StartScene(planner, self.runs, shape, fold, seed, self.crop, self.calibrate, self.imagenet_weights)


@dataclass(frozen=True)
class Measurement:
    """What is measured, called `name`, how, of which seeds, which page shows it, since when (`started`)."""

    name: str
    shared: Shared
    scene: StartScene
    seeds: Sequence[int] = ()
    page: str = "bound"
    started: float = field(default_factory=time.monotonic)

    def _each(self) -> list[tuple[StartScene, str]]:
        """Every start in the scene of every seed; a file of weights is one start, whatever the seeds."""
        scenes = [replace(self.scene, seed=seed) for seed in self.seeds or [self.scene.seed]]
        named = self.shared.names()
        return [(one, name) for name in named for one in (scenes if name in BOUND_STARTS else [self.scene])]

    def seed_of_each(self) -> list[int]:
        """The seeds of all starts that are measured."""
        return [one.seed for one, _ in self._each()]

    def needed(self) -> list[Run]:
        """The runs that the starts copy from, and Stage 1 where images are cut to the lesion."""
        copied = [run for one, name in self._each() if name in BOUND_STARTS for run in one.run(name).needs()]
        cropper = self.scene.cropper()
        return [*copied, *([cropper] if cropper else [])]

    def plan(self, targets: Iterable[Run] = (), others: Sequence[Measurement] = ()) -> None:
        """Say what this and `others` would train, `targets` among it, and what it would take; nothing is written."""
        from tatl.studies.conduct import check_runs, devices_of
        from tatl.studies.runtime.effort import plan

        scene, machine, every = self.scene, self.shared.machine, [self, *others]
        needed = [*(run for each in every for run in each.needed()), *targets]
        check_runs(needed)
        starts = sum(len(each.seed_of_each()) for each in every)
        print(f"{self.name}: starts to measure, those of every seed and fold counted: {starts}")
        print(plan(needed, scene.root, scene.store, machine.device, **devices_of(machine)).words())

    def starts(self) -> list[StartNetwork]:
        """Train what the starts copy from, if it is not there, and make them."""
        from tatl.studies.conduct import check_sources
        from tatl.studies.execution.schedule import execute

        scene, named, needed = self.scene, self.shared.names(), self.needed()
        for name in named:
            if name not in BOUND_STARTS:
                scene.of_file(Path(name))  # weights that do not fit are refused before anything is trained
        sources = [scene.run("source")] if "source" in named else []
        check_sources([*needed, *sources], scene.root, scene.imagenet_weights)
        execute(needed, scene.root, scene.store, self.shared.machine)
        boxes = scene.boxes()
        return [one.start(name, boxes) for one, name in self._each()]

    def about(self) -> dict[str, Any]:
        """What a row of a table must say to be quoted alone."""
        scene = self.scene
        about = {"data": scene.store.source["data"], "source": scene.planner.settings.source}
        about |= {"preset": self.shared.preset, "shape": scene.shape, "fold": scene.fold, "seed": scene.seed}
        return about | {"crop": scene.crop, "calibrated": scene.calibrate}

    def write(
        self, made: dict[str, DataFrame], starts: list[StartNetwork], more: dict[str, Any], optional: Sequence[str] = ()
    ) -> None:
        """One CSV per table, and <name>.json, which says what they were made from, with `more`.

        Tables of before that are `optional` and were not made now go: they may be of another store or other settings.
        """
        from tatl.data.store import write_csv

        folder = self.shared.folder
        folder.mkdir(parents=True, exist_ok=True)
        for table in optional:
            path = folder / f"{table}.csv"
            if table not in made and path.is_file():
                path.unlink()
                print(f"note: {path} was of an earlier command and is removed")
        for table, frame in made.items():
            write_csv(frame, folder / f"{table}.csv")
        write_atomically(folder / f"{self.name}.json", json.dumps(self._provenance(starts) | more, indent=1) + "\n")

    def _provenance(self, starts: list[StartNetwork]) -> dict[str, Any]:
        from tatl.studies.write import provenance

        scene, measured = self.scene, list(dict.fromkeys(start.name for start in starts))
        settings, planner = scene.planner.settings, scene.planner
        described = provenance(self.name, self.shared.preset, settings, scene.store, planner, measured, scene.root)
        subjects = {name: [start.subject.name for start in starts if start.name == name] for name in measured}
        seconds = round(time.monotonic() - self.started, 1)
        return described | self.about() | {"subjects": subjects, "seconds": seconds}

    def farewell(self, made: dict[str, DataFrame]) -> str:
        """Where the tables are, and the command that shows them."""
        from tatl.studies.conduct import report_of

        tables = ", ".join(f"{table}.csv" for table in made)
        folder = self.shared.folder
        return f"tables are in {folder}: {tables}\nnext: {report_of(self.page, folder)}"

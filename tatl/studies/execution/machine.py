"""Where runs are trained, as the command line says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tatl.machine.processes import cores
from tatl.studies.settings import Cluster
from tatl.training.device import device_kind
from tatl.training.writers import Log, check_log

THREADS = 4  # of one run on a CPU with many cores; more only wait for each other at these sizes


@dataclass(frozen=True)
class Machine:
    """Where runs are trained.

    device            auto, cpu or cuda
    imagenet_weights  file of ImageNet weights, or folder of one per backbone
    progress          say what is done, and on a terminal draw a bar
    workers           runs trained at once; 0: one per GPU, or two on two cores and more, one per four of many
    log               what else than history.csv losses are written to (tatl.training.writers)
    cluster           the Ray cluster that trains them instead of this machine, where it names one
    """

    device: str = "auto"
    imagenet_weights: Path | None = None
    progress: bool = True
    workers: int = 1
    log: Log = "csv"
    cluster: Cluster = field(default_factory=Cluster)

    def __post_init__(self) -> None:
        check_log(self.log)

    def at_once(self, large: bool = False) -> int:
        """How many runs are trained at once; of large networks one, unless `workers` says more."""
        if device_kind(self.device) == "cuda":
            import torch

            there = torch.cuda.device_count()
        else:
            there = 1 if large else max(min(cores(), 2), cores() // THREADS)
        return self.workers or max(1, there)

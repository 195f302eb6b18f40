"""The memory that a run is asked for on a cluster: what runs of that network were seen to take.

memory.json     in the folder of runs: the largest resident memory of a process, in bytes, while it trained one
"""

from __future__ import annotations

import json
from pathlib import Path

from tatl.run import Run, write_atomically

TAKEN = "memory.json"


class Memory:
    """What was seen, kept among the runs for the next study; 0 of a network that nobody has trained there yet."""

    def __init__(self, root: Path) -> None:
        self.path = root / TAKEN
        self._seen: dict[str, float] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}

    def of(self, run: Run) -> float:
        """Bytes."""
        return self._seen.get(_network(run), 0.0)

    def note(self, run: Run, peak: float) -> None:
        """A process took so many bytes in training it."""
        if peak > self.of(run):
            self._seen[_network(run)] = peak
            write_atomically(self.path, json.dumps(self._seen, indent=1) + "\n")


def _network(run: Run) -> str:
    return f"{run.shape} on {run.backbone}, {run.recipe.batch} of {run.size}"

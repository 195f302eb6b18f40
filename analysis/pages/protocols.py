"""What captions and shared tables ask of a folder of tables, whichever study or census it is."""

from __future__ import annotations

from typing import Protocol

import pandas as pd

from analysis.pages.text import Told


class Measured(Told, Protocol):
    """Told tables with scores over folds."""

    @property
    def measured(self) -> pd.DataFrame: ...

    @property
    def attributes(self) -> list[str]: ...


class Counted(Protocol):
    """Tables with the counts of a store's masks."""

    @property
    def counts(self) -> pd.DataFrame: ...

"""What is known of the curvature of one set of weights over the images of a store, kept as it comes.

    runs/<store>/curvature/<subject>.csv    one row per distinct (image, mask), options and circumstances

The subject is named by a checksum of the weights, of the store and of the boxes that cut its images (and of what
else was done to the weights); the name stands in every row too: results of other weights are never taken for these,
nor are those of another kind of device, precision, loss, or version of the engine, or of another absolute error
(analysis.measure.solve).  A ledger with other columns is from before them: it is set aside as <subject>.csv.old.
The same command reads what is there and goes on; since every solve is a function of its own input, in the end the
numbers are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from analysis.curvature.norms import ENGINE, FOUND, Options, tensor_digest, weights_digest
from tatl.data.batches import Feed
from tatl.data.store import Store
from tatl.losses import ALPHA, BETA, segmentation_loss

image_loss = partial(segmentation_loss, pool="image")
LOSS = f"{segmentation_loss.__name__} per image alpha {ALPHA:g} beta {BETA:g}"
SINGLE, DOUBLE = "float32", "float64"
_OPTIONS = [f.name for f in dataclasses.fields(Options)]
_ALWAYS = b"subject,image,mask,value,residual,"  # the header of every ledger that there was begins so
PAIR = ["image", "mask", "absolute"]  # what was solved, and to what error
LEDGER_COLUMNS = ["subject", "image", "mask", *FOUND, *_OPTIONS, "device", "precision", "loss", "engine"]
_WORDS = ["subject", "image", "mask", "absolute", "method", "start", "device", "precision", "loss"]  # read as they are
Solved = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """Weights (used in evaluation mode) on a store, whole frames or cut to `boxes` int [N, 4], and their name."""

    name: str
    model: nn.Module
    store: Store
    boxes: np.ndarray | None = None

    def image_and_mask(self, index: int, mask: str) -> tuple[Tensor, Tensor]:
        """Image [3, H, W] and mask [1, H, W] as the network sees them."""
        images, masks = Feed(self.store, mask, self.boxes)(np.array([index]))
        return images[0].contiguous(), masks[0]

    def mask_digest(self, index: int, mask: str) -> str:
        """The checksum of one mask of one image."""
        return tensor_digest(Feed(self.store, mask, self.boxes).masks(np.array([index]))[0])


def subject_name(model: nn.Module, store: Store, boxes: np.ndarray | None, *more: object) -> str:
    """A checksum of what decides a subject's curvature; `more` is what else was done to the weights."""
    content = hashlib.sha256(f"{weights_digest(model)} {store.digest} {more}".encode())
    if boxes is not None:
        content.update(np.ascontiguousarray(boxes, np.int64).tobytes())
    return content.hexdigest()[:12]


def circumstances(options: Options, device: str = "cpu", precision: str = SINGLE) -> Solved:
    """All that decides a curvature beside the subject and what stands in `PAIR`, by its column."""
    kind, how = device.partition(":")[0], dataclasses.asdict(options)
    del how["absolute"]
    return how | {"device": kind, "precision": precision, "loss": LOSS, "engine": ENGINE}


class Ledger:
    """The CSV of one subject."""

    def __init__(self, path: Path, subject: str) -> None:
        self.path, self.subject = path, subject

    def read(self, how: Solved) -> pd.DataFrame:
        """Rows of these `circumstances`, indexed by `PAIR`; a line that a stop cut short is left out.

        Raises ValueError where the file is none of these, or holds rows of other weights.
        """
        kept = self._whole()
        remedy = f"move {self.path} away; it will be computed again"
        try:
            table = pd.read_csv(io.StringIO(kept), dtype=dict.fromkeys(_WORDS, str), keep_default_na=False)
            table = table.astype({"absolute": float} if "absolute" in table else {})
        except (ValueError, pd.errors.ParserError) as error:
            raise ValueError(f"{self.path} is not a table of curvatures ({error}): {remedy}") from error
        if list(table.columns) != LEDGER_COLUMNS:
            raise ValueError(f"{self.path} has other columns than {', '.join(LEDGER_COLUMNS)}: {remedy}")
        if strange := set(table["subject"]) - {self.subject}:
            raise ValueError(f"{self.path} holds rows of other weights ({', '.join(sorted(strange))}): {remedy}")
        same = (table[list(how)] == pd.Series(how)).all(axis=1)
        return table[same].drop_duplicates(PAIR).set_index(PAIR)[FOUND]

    def _whole(self) -> str:
        """The text up to the last line that is whole; what follows is cut off, a ledger of before set aside."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        header = (",".join(LEDGER_COLUMNS) + "\n").encode()
        if content.startswith(_ALWAYS) and b"\n" in content and not content.startswith(header):
            self.path.replace(self.path.with_name(self.path.name + ".old"))
            content = b""
        kept = content.rfind(b"\n") + 1
        if kept != len(content) or not kept:  # a stop cut its last line short, or its first
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.truncate(kept)
                stream.write(b"" if kept else header)
        return (content[:kept] or header).decode(errors="replace")

    def append(self, rows: Sequence[Solved]) -> None:
        text = pd.DataFrame(rows, columns=LEDGER_COLUMNS).to_csv(index=False, header=False)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(text)

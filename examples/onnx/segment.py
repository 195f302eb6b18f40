"""Segment pictures with exported networks: numpy and ONNX Runtime, and Pillow for the files; no torch, no tatl.

    python -m tatl export --variant stage123 --out model.onnx            where the networks were trained
    python segment.py IMAGE.jpg --model model.json --out predictions     anywhere

`Model.__call__` is all of it: frame -> lesion -> box -> masks in the box -> probabilities in the picture's own pixels.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


class Model:
    """What model.json names."""

    def __init__(self, path):
        from onnxruntime import InferenceSession

        described = json.loads(Path(path).read_text(encoding="utf-8"))
        self.size, self.offset, self.zoom = described["size"], described["offset"], described["zoom"]
        self.files = described["files"]
        self.sessions = [InferenceSession(Path(path).parent / each["file"]) for each in self.files]

    def __call__(self, frame, original):
        """Probabilities float [H, W] by mask, of a frame uint8 [h, w, 3] of the networks' size `self.size`.

        `original` is the picture's own (H, W).  Outside of the box the probability is zero.
        """
        height, width = frame.shape[:2]
        found, box = {}, np.array([0, 0, height, width])
        for session, each in zip(self.sessions, self.files, strict=True):  # the lesion's first
            given = {"frames": frame[None]}
            if each["cropped"]:
                box = grow(lesion_box(found["lesion"] >= 0.5), self.offset, (height, width), self.zoom)
                given["boxes"] = box[None]
            names = [f"probability_{mask}" for mask in each["masks"]]
            found |= {mask: p[0, 0] for mask, p in zip(each["masks"], session.run(names, given), strict=True)}
        cropped = {mask for each in self.files if each["cropped"] for mask in each["masks"]}
        inside = scaled(box, (height, width), original)
        whole = np.array([0, 0, *original])
        return {mask: paste(p, inside if mask in cropped else whole, original, self.zoom) for mask, p in found.items()}


def lesion_box(mask):
    """(top, left, bottom, right) round the largest region of a mask [H, W], diagonals joined; without one, all."""
    runs, first_of, above = [], [], []  # (row, first, last) of set pixels; the first run that each is joined to

    def region(run):
        while first_of[run] != run:
            run = first_of[run]
        return run

    for row, line in enumerate(mask):
        edges, here = np.flatnonzero(np.diff(np.pad(line.astype(np.int8), 1))).tolist(), []
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            here.append(len(runs))
            first_of.append(len(runs))
            runs.append((row, first, last))
            for other in above:
                if runs[other][1] <= last and first <= runs[other][2]:
                    old, new = sorted((region(other), region(here[-1])))
                    first_of[new] = old
        above = here
    if not runs:
        return np.array([0, 0, *mask.shape])
    regions, (rows, starts, ends) = np.array([region(run) for run in range(len(runs))]), np.array(runs).T
    largest = regions == np.argmax(np.bincount(regions, ends - starts))
    return np.array([rows[largest].min(), starts[largest].min(), rows[largest].max() + 1, ends[largest].max()])


def grow(box, offset, size, zoom):
    """The box grown by `offset` pixels and clipped, and no side less than a zoom-th of the frame's."""
    frame = np.array(size)
    low, high = np.maximum(box[:2] - offset, 0), np.minimum(box[2:] + offset, frame)
    least = -(-frame // zoom)
    low = np.clip(low - np.maximum(least - (high - low), 0) // 2, 0, frame - least)
    return np.concatenate([low, np.maximum(high, low + least)])


def scaled(box, size, other):
    """The box in a frame of another size, at least one pixel a side."""
    low = [min(round(int(edge) * new / old), new - 1) for edge, old, new in zip(box[:2], size, other, strict=True)]
    high = [max(round(int(edge) * new / old), 1) for edge, old, new in zip(box[2:], size, other, strict=True)]
    return np.array([*low, *(max(last, first + 1) for first, last in zip(low, high, strict=True))])


def paste(probability, box, size, zoom):
    """A probability [h, w] at its box in a picture of `size`, zero elsewhere."""
    top, left, bottom, right = box
    picture = np.zeros(size, np.float32)
    picture[top:bottom, left:right] = resize(probability, (bottom - top, right - left), zoom)
    return picture


def resize(values, size, zoom):
    """Bilinear, widened to the ratio where it reduces (antialiased), to less than a zoom-th by means first."""
    for axis, new in enumerate(size):
        if values.shape[axis] > zoom * new:
            values = np.moveaxis(means(values.shape[axis], zoom * new) @ np.moveaxis(values, axis, 0), 0, axis)
        values = np.moveaxis(triangles(values.shape[axis], new) @ np.moveaxis(values, axis, 0), 0, axis)
    return values


def triangles(old, new):
    """Weights [new, old] of linear interpolation between pixel centres."""
    ratio = old / new
    centres, width = (np.arange(new) + 0.5) * ratio, max(ratio, 1)
    weights = np.maximum(1 - np.abs(np.arange(old) + 0.5 - centres[:, None]) / width, 0)
    return weights / weights.sum(1, keepdims=True)


def means(old, new):
    """Weights [new, old] of the means of the pixels that each new one touches."""
    first, last = np.arange(new) * old // new, -(-np.arange(1, new + 1) * old // new)
    inside = (np.arange(old) >= first[:, None]) & (np.arange(old) < last[:, None])
    return inside / inside.sum(1, keepdims=True)


def read(path, size):
    """A picture upright as uint8 [h, w, 3] of `size`, and its own (H, W); reduced as the networks' own were."""
    with Image.open(path) as opened:
        turned = opened.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        goal = tuple(size) if turned else tuple(size[::-1])
        own = opened.size if turned else opened.size[::-1]
        opened.draft("RGB", goal)
        picture = opened.convert("RGB").resize(goal, Image.Resampling.LANCZOS, reducing_gap=3.0)
        return np.array(ImageOps.exif_transpose(picture)), own


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, default=Path("model.json"))
    parser.add_argument("--out", type=Path, default=Path("predictions"))
    given = parser.parse_args()
    model = Model(given.model)
    given.out.mkdir(parents=True, exist_ok=True)
    for image in given.images:
        for mask, probability in model(*read(image, model.size)).items():
            grey = Image.fromarray(np.round(255 * probability).astype(np.uint8))
            grey.save(given.out / f"{image.stem}_probability_{mask}.png")


if __name__ == "__main__":
    main()

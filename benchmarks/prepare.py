"""`prepare` against a plain loop on large photographs, and its memory for N and 2 N cases.

    python benchmarks/prepare.py --cases 48

Claim: JPEGs decoded at reduced scale on all cores are several times as fast as Pillow's full decode and resize on
one core, masks included, and peak memory does not grow with the number of cases.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image, ImageDraw, ImageFilter

from tatl.data.case import Size
from tatl.data.readers.isic import Isic2018
from tatl.data.store import prepare
from tatl.machine.processes import cores
from tatl.names import SKIN_ATTRIBUTES

WIDTH, HEIGHT = 4000, 3000
DISTINCT = 8
BLOBS = (0, 1, 6, 8, 0, 0, 0)  # in the lesion and in each attribute: two of five present (in ISIC 2018, 1.2 on average)
SIZE = Size(384, 512)


def photograph(seed: int) -> Image.Image:
    """Skin with a dark blot and grain, so that the JPEG is as large as a camera's."""
    rng = np.random.default_rng(seed)
    skin = Image.new("RGB", (WIDTH // 4, HEIGHT // 4), (215, 170, 150))
    ImageDraw.Draw(skin).ellipse((250, 150, 700, 600), fill=(110, 70, 55))
    smooth = skin.filter(ImageFilter.GaussianBlur(20)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 8, (HEIGHT, WIDTH, 1)).astype(np.float32)
    return Image.fromarray((np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8))


def mask(seed: int, blobs: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    picture = Image.new("L", (WIDTH, HEIGHT), 0)
    for x, y, radius in rng.uniform((1000, 600, 40), (2800, 2400, 300), (blobs, 3)):
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return picture


def archive(root: Path, cases: int) -> None:
    """An ISIC 2018 folder of so many cases: a few distinct ones, the rest hard links to them."""
    folders = [root / f"ISIC2018_{name}" for name in ("Task1-2_Training_Input", "Task1_Training_GroundTruth")]
    folders.append(root / "ISIC2018_Task2_Training_GroundTruth_v3")
    for folder in folders:
        folder.mkdir(parents=True)
    for i in range(cases):
        names = [folders[0] / "ISIC_{:07d}.jpg", folders[1] / "ISIC_{:07d}_segmentation.png"]
        names += [folders[2] / f"ISIC_{{:07d}}_attribute_{a}.png" for a in SKIN_ATTRIBUTES]
        for k, name in enumerate(map(str, names)):
            if i >= DISTINCT:
                os.link(name.format(i % DISTINCT), name.format(i))
            elif k == 0:
                photograph(i).save(name.format(i), quality=90)
            else:
                mask(10 * i + k, BLOBS[k]).save(name.format(i))


def plain_loop(root: Path) -> None:
    """Pillow on one core: decode everything in full, then resize."""
    for path in sorted((root / "ISIC2018_Task1-2_Training_Input").iterdir()):
        np.asarray(Image.open(path).convert("RGB").resize((SIZE.width, SIZE.height), Image.Resampling.LANCZOS))
        for other in sorted(root.glob(f"*GroundTruth*/{path.stem}_*.png")):
            np.asarray(Image.open(other).resize((SIZE.width, SIZE.height), Image.Resampling.BOX))


def spent(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and seconds of this process on a core."""
    start, used = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - used


def peak_memory(function: Callable[[], object]) -> float:
    """Highest sum of unshared memory of this process and its children while `function` runs, in MB above before."""
    me, done, peak = psutil.Process(), threading.Event(), [0]

    def total() -> int:
        used = 0
        for process in (me, *me.children(recursive=True)):
            try:
                used += process.memory_full_info().uss
            except psutil.Error:
                continue
        return used

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], total())

    before, watcher = total(), threading.Thread(target=watch)
    watcher.start()
    function()
    done.set()
    watcher.join()
    return (peak[0] - before) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=48)
    cases = parser.parse_args().cases
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive(folder / "n", cases)
        archive(folder / "2n", 2 * cases)
        megabytes = sum(p.stat().st_size for p in (folder / "n").glob("*_Input/*")) / 1e6 / cases
        print(f"{cases} JPEGs of {WIDTH} x {HEIGHT} ({megabytes:.1f} MB each), each with 6 masks (3 empty), to {SIZE}")
        base, base_core = spent(lambda: plain_loop(folder / "n"))
        print(f"plain Pillow loop, one core, all decoded in full: {cases / base:6.2f} images/s")
        for workers in sorted({1, cores()}):
            reader = Isic2018(folder / "n")
            clock, core = spent(
                lambda r=reader, w=workers: prepare(r, folder / f"store{w}", SIZE, workers=w, progress=False)
            )
            print(f"prepare, {workers} process(es): {cases / clock:28.2f} images/s, {base / clock:.1f} times the loop")
            if workers == 1:
                print(f"  on a core of its own (by processor time): {base_core / core:.1f} times the loop")
        for part, count in (("n", cases), ("2n", 2 * cases)):
            reader = Isic2018(folder / part)
            used = peak_memory(lambda r=reader, p=part: prepare(r, folder / f"memory{p}", SIZE, progress=False))
            print(f"peak memory beyond the start, {cores()} processes, {count:4d} cases: {used:6.0f} MB")


if __name__ == "__main__":
    main()

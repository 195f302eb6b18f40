"""What a GPU that is there for minutes can say: nine minutes, every part with a limit, all in one folder as it comes.

    python benchmarks/gpu.py --out OUT            on a GPU, by default into $OUT
    python benchmarks/gpu.py --out OUT --small    the same script on a CPU, at sizes that say nothing

Parts, in order; one that fails or runs out of time stops no other.
    tests         captured graphs, products, norms, feeding and losses
    variants      five variants at 384x512 in float32, then in bf16, two epochs each, four networks at once; losses of
                  both compared, run by run
    workers       one variant in bf16, one network at a time and four at once
    training      images/s at batch 8 to 64 in both precisions, as a share of the bare step
    curvature     product, captured and not, norms beside PyHessian, and what Figure 7 would take
    leaf          study paradigms on real photographs, where --leaf (default .gpu/leaf or ../shared/data/leaf) is there

OUT/gpu.log holds all that was printed, OUT/gpu.json each part's command, status and seconds, written after every part.
Only Python's own library is imported here, and wheels in .gpu/wheels are installed first: an image may lack some.
"""

import argparse
import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 540
SETTLE = 10  # seconds that an interrupted part has to end
BAR = re.compile(r"\d+%\|")
LEAVES = (".gpu/leaf", "../shared/data/leaf")


@dataclass(frozen=True)
class Part:
    """A command, by the words after `python`, and its seconds at most on a GPU."""

    name: str
    limit: int
    words: str


STUDY = "-m tatl study {comparison} --preset {preset} --device {device} {epochs} "
PARTS = (
    Part("tests", 60, "-m pytest -q -W default -p no:cacheprovider {tests}"),
    Part("store", 20, "-m tatl prepare --data phantom --cases {cases} --enrich --size {size} --store {work}/store"),
    *(
        Part(
            f"variants-{precision}",
            75,
            STUDY.replace("{comparison}", "variants --store {work}/store")
            + f"--precision {precision} --workers {{many}} --runs {{work}}/runs --tables {{work}}/tables-{precision}",
        )
        for precision in ("32", "bf16")
    ),
    *(
        Part(
            f"workers-{count}",
            35,
            STUDY.replace("{comparison}", "variants --store {work}/store --variants stage3")
            + f"--precision bf16 --workers {number} --runs {{work}}/runs-{count} --tables {{work}}/tables-{count}",
        )
        for count, number in (("one", "1"), ("many", "{many}"))
    ),
    Part(
        "training",
        80,
        "benchmarks/training.py --device {device} --size {size} --batches {batches} --precisions 32,bf16 --camera '' "
        "{steps}",
    ),
    Part(
        "curvature",
        100,
        "benchmarks/curvature.py --device {device} --size {size} --cases {cases} --scales '' --figure-7 {images} "
        "{norms} --runs {work}/runs-curvature --store {work}/store-curvature",
    ),
    Part("leaf-store", 20, "-m tatl prepare --data manifest --root {leaf} --size {size} --store {work}/leaf"),
    Part(
        "leaf",
        40,
        STUDY.replace("{comparison}", "paradigms --store {work}/leaf --attributes rust --variants tatl,source")
        + "--runs {work}/runs-leaf --tables {work}/tables-leaf",
    ),
)
TESTS = "tests/test_graphs.py tests/test_products.py tests/test_curvature.py tests/test_feed.py tests/test_losses.py"
LARGE = {
    "size": "384x512", "preset": "quick", "cases": "60", "many": "4", "batches": "8,16,32,64", "images": "4",
    "epochs": "--epochs 2 --agnostic-epochs 2 --lesion-epochs 2", "steps": "--rounds 2 --compiled",
    "norms": "--images 2", "tests": TESTS,
}  # fmt: skip
SMALL = {
    "size": "32x64", "preset": "smoke", "cases": "30", "many": "2", "batches": "2", "images": "2", "epochs": "",
    "steps": "--rounds 1 --steps 2",
    "norms": "--images 1 --rounds 1 --backbones tu-test_efficientnet --pyhessian false",
    "tests": "tests/test_losses.py tests/test_graphs.py",
}  # fmt: skip


def carry_out(part: Part, seconds: float, out: Path, values: dict[str, str], environment: dict[str, str]) -> dict:
    """Run a part for so many seconds at most, all it prints in gpu.log; what became of it."""
    words = shlex.split(part.words.format(**values))
    started = time.monotonic()
    with (out / "gpu.log").open("ab") as log:
        log.write(f"\n== {part.name}: python {shlex.join(words)}\n".encode())
        log.flush()
        begun = log.tell()
        process = subprocess.Popen(
            [sys.executable, *words], stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True
        )
        try:
            status = _wait(process, seconds)
        finally:
            if process.poll() is None:  # Ctrl-C
                os.killpg(process.pid, signal.SIGKILL)
    lines = (out / "gpu.log").read_bytes()[begun:].decode(errors="replace").replace("\r", "\n").splitlines()
    told = [line for line in lines if line.strip() and not BAR.search(line)]
    took = round(time.monotonic() - started, 1)
    return {"part": part.name, "status": status, "seconds": took, "limit": round(seconds), "last": told[-14:]}


def _wait(process: subprocess.Popen, seconds: float) -> int | str:
    """The exit status, or that time ran out: then all its processes are interrupted, and ended if they go on."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        for end in (signal.SIGINT, signal.SIGKILL):
            os.killpg(process.pid, end)
            try:
                process.wait(SETTLE)
                break
            except subprocess.TimeoutExpired:
                continue
        return "out of time"


def compared(runs: Path) -> list[str]:
    """Best validation losses of runs that differ in precision alone."""
    best: dict[str, dict[str, float]] = {}
    for folder in (path.parent for path in sorted(runs.rglob("weights.safetensors"))):
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        with (folder / "history.csv").open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == "validation" and row["step"] != "0"]
        best.setdefault(_without_precision(run), {})[run["recipe"].get("precision", "32")] = min(
            float(row["loss"]) for row in rows
        )
    both = [each for each in best.values() if len(each) == 2]
    if not both:
        return ["no run was finished in both precisions"]
    means = {precision: sum(each[precision] for each in both) / len(both) for precision in ("32", "bf16")}
    apart = max(abs(each["32"] - each["bf16"]) for each in both)
    return [
        f"{len(both)} runs in both precisions: best validation loss {means['32']:.4f} in 32, {means['bf16']:.4f} in "
        f"bf16 (means), at most {apart:.4f} apart"
    ]


def _without_precision(run: object) -> str:
    def cut(value: object) -> object:
        return {k: cut(v) for k, v in value.items() if k != "precision"} if isinstance(value, dict) else value

    return json.dumps(cut(run), sort_keys=True)


def installed(work: str) -> dict[str, str]:
    """The environment of every part, the bundle's wheels installed where there are any."""
    places = [str(ROOT)]
    if wheels := sorted(map(str, (ROOT / ".gpu/wheels").glob("*"))):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", f"{work}/site"]
        subprocess.run([*pip, *wheels], check=True)
        places.insert(0, f"{work}/site")
    before = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([*places, *([before] if before else [])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def main() -> int:
    """0 where every part ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-report")))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="", help="default: cpu with --small, else cuda")
    parser.add_argument("--small", action="store_true", help="try the script itself")
    parser.add_argument("--leaf", type=Path, help="folder of real photographs with a cases.csv")
    parser.add_argument("--only", default="", help="parts, with commas")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="at most, for all parts together")
    given = parser.parse_args()
    ends = time.monotonic() + given.seconds
    places = [*([given.leaf] if given.leaf else []), *(ROOT / place for place in LEAVES)]
    leaf = next((place.resolve() for place in places if place.is_dir()), None)
    chosen = [part for part in PARTS if part.name in (given.only.split(",") if given.only else [p.name for p in PARTS])]
    given.out.mkdir(parents=True, exist_ok=True)
    out, done = given.out.resolve(), []
    (out / "gpu.log").write_bytes(b"")
    with tempfile.TemporaryDirectory() as work:
        environment = installed(work)
        values = {**(SMALL if given.small else LARGE), "work": work, "leaf": str(leaf)}
        values["device"] = given.device or ("cpu" if given.small else "cuda")
        for part in chosen:
            if leaf is None and part.name.startswith("leaf"):
                done.append({"part": part.name, "status": "left out", "seconds": 0, "last": ["no leaves: give --leaf"]})
            else:
                left = max(ends - time.monotonic() - SETTLE, 1)
                limit = part.limit * (3 if given.small else 1)  # two cores, and others at work on them
                done.append(carry_out(part, min(limit, left), out, values, environment))
            if part.name == "variants-bf16":
                done[-1]["last"] += compared(Path(work) / "runs")
            (out / "gpu.json").write_text(json.dumps({"small": given.small, "parts": done}, indent=1), encoding="utf-8")
            print(f"== {part.name}: status {done[-1]['status']}, {done[-1]['seconds']} s", flush=True)
            print(*done[-1]["last"], sep="\n", flush=True)
    return int(any(each["status"] not in (0, "left out") for each in done))


if __name__ == "__main__":
    sys.exit(main())

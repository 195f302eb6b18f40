"""The script for Slurm, with stand-ins for what a cluster has: what starts where, and who hears that time is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "examples/slurm/study.sh"
STUDY = """
import sys, time
from pathlib import Path
Path("study").write_text(" ".join(sys.argv[1:]))
try:
    time.sleep(60)
except KeyboardInterrupt:
    Path("heard").touch()
    time.sleep(0.5)  # the runs under way are finished
    sys.exit(130)
"""
STAND_INS = {
    "scontrol": "echo localhost; sleep .2; echo b",  # whoever reads the first line alone breaks the pipe
    "getent": "printf '127.0.1.1 STREAM localhost\\n10.0.0.7 STREAM\\n10.0.0.7 DGRAM\\n'",
    "ray": 'echo "ray $*" >> called',
    "srun": 'echo "srun $*" >> called',
    "python": f'exec {sys.executable} study.py "$@"',
}


def until(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Slurm is not of Windows")


def begin(folder: Path, **stand_ins: str) -> subprocess.Popen[bytes]:
    place = folder / ".venv/bin"
    place.mkdir(parents=True)
    (place / "activate").touch()
    (folder / "study.py").write_text(STUDY, encoding="utf-8")
    for name, line in (STAND_INS | stand_ins).items():
        (place / name).write_text(f"#!/bin/bash\n{line}\n", encoding="utf-8")
        (place / name).chmod(0o755)
    of_slurm = {"SLURM_JOB_NODELIST": "localhost,b", "SLURM_NNODES": "2", "SLURM_CPUS_ON_NODE": "8"}
    words = {**os.environ, **of_slurm, "PATH": f"{place}:{os.environ['PATH']}"}
    command = ["bash", str(SCRIPT), "crop", "--preset", "paper"]
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(command, cwd=folder, env=words, stderr=said)


@pytest.mark.parametrize("found", ["exit 2", "echo 127.0.1.1 STREAM localhost"])
def test_a_node_without_an_address_for_others_is_named(found: str, tmp_path: Path) -> None:
    job = begin(tmp_path, getent=found)
    assert job.wait(30) == 1 and "localhost has no IPv4 address" in (tmp_path / "said").read_text(encoding="utf-8")
    assert not (tmp_path / "called").exists()


def test_the_study_alone_hears_that_time_is_over_and_is_waited_for(tmp_path: Path) -> None:
    job = begin(tmp_path, srun='echo "srun $*" >> called; exit 3')
    until(tmp_path / "study")
    time.sleep(0.5)
    job.send_signal(signal.SIGINT)
    assert job.wait(30) == 130 and (tmp_path / "heard").exists()
    assert "srun ended with status 3" in (tmp_path / "said").read_text(encoding="utf-8")
    called = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    assert (tmp_path / "study").read_text(encoding="utf-8").endswith("study crop --preset paper --on 10.0.0.7:6379")
    (srun,) = [line for line in called if line.startswith("srun")]
    assert "--cpus-per-task=8" in srun and "--exclude=localhost" in srun and "--block" in srun
    assert "ray start --head" in "\n".join(called) and called[-1] == "ray stop"

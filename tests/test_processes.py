"""Work in several processes says what is missing, wherever the machine, or the script, has no room for it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tatl.data.phantom.drawing import Phantom
from tatl.data.store import Store, prepare
from tatl.machine.processes import SOCKET_BYTES

PREPARE = "from tatl.data.phantom.drawing import Phantom; from tatl.data.store import prepare"
WITHOUT_GUARD = f"{PREPARE}\nprepare(Phantom(8, seed=0), 'mine', (24, 32), workers=2, progress=False)\n"
WORDS = ("prepare", "--data", "phantom", "--cases", "4", "--size", "24x32", "--store", "s", "--workers")
# As on Windows, where these are not there.
ELSEWHERE = """
import os, sys
sys.modules["fcntl"] = None
for name in ("pread", "pwrite", "sched_getaffinity"):
    vars(os).pop(name, None)
from tatl.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def python(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), **environment}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=given, capture_output=True, encoding="utf-8", check=False, timeout=100
    )


def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(WITHOUT_GUARD, encoding="utf-8")
    ended = python("own.py", cwd=tmp_path)
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1 and 'put what it does under `if __name__ == "__main__":`' in last
    assert "memory ran out" not in ended.stderr


def test_temporary_files_may_lie_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 110)
    deep.mkdir()
    ended = python("-m", "tatl", *WORDS, "2", cwd=tmp_path, TMPDIR=str(deep))
    assert len(str(deep)) > SOCKET_BYTES and ended.returncode == 0, ended.stderr
    assert len(Store.open(tmp_path / "s")) == 4 and not list(deep.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOENT])
def test_missing_shared_memory_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", refuse)
    with pytest.raises(OSError, match=r"^several processes need shared memory.*\(/dev/shm\).* give --workers 1"):
        prepare(Phantom(4, seed=0), tmp_path / "s", (24, 32), workers=2, progress=False)
    assert len(prepare(Phantom(4, seed=0), tmp_path / "s", (24, 32), workers=1, progress=False)) == 4


def test_nothing_that_windows_lacks_is_needed(tmp_path: Path) -> None:
    assert "prepare" in python("-c", ELSEWHERE, "--help", cwd=tmp_path).stdout
    ended = python("-c", ELSEWHERE, *WORDS, "1", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert len(Store.open(tmp_path / "s")) == 4 and [path.name for path in tmp_path.iterdir()] == ["s"]


DEAF = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.exit(subprocess.call(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_tests_of_ctrl_c_pass_where_interrupts_are_ignored(tmp_path: Path) -> None:
    """As `nohup make test &` in a script starts them."""
    ctrl_c = f"{Path(__file__).with_name('test_store.py')}::test_ctrl_c_in_the_middle_loses_nothing"
    ended = python("-c", DEAF, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ctrl_c, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout

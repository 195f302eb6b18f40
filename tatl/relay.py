"""One command that hands over to another: its Ctrl-C reaches that one, whose exit status becomes its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

PATIENCE = 10.0  # seconds that a stopped process has to end by itself


def pass_on(command: Sequence[str]) -> None:
    """Run a command in a process of its own; Ctrl-C reaches it, and its exit status becomes this process's."""
    sys.stdout.flush()
    with subprocess.Popen(command) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            status = _stopped(process)
    if status:
        raise SystemExit(status if status > 0 else 128 - status)


def _stopped(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process that a terminal's Ctrl-C has reached too, or is sent now."""
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.wait()

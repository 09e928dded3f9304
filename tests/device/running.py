"""One step of the course: its processes, their time, and what they said."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple

from tests.device.plan import Step

ROOT = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 2.0  # between being asked to end and being ended
State = Literal["done", "failed", "cut", "absent", "not reached", "running"]


class Ending(NamedTuple):
    """How a step ended."""

    state: State
    reason: str  # empty if it is done
    seconds: float


def run(step: Step, limit: float, log: Path) -> Ending:
    """Run a step's commands one after the other, and end what is left of them in time.

    Args:
        step: what to run.
        limit: seconds that all of it may take.
        log: file that what they print is added to.
    """
    begun = time.monotonic()
    for command in step.commands:
        left = limit - (time.monotonic() - begun)
        with log.open("ab") as sink:
            sink.write(f"\n== {step.name}: python {' '.join(command)}\n".encode())
            sink.flush()
            start = sink.tell()
            status = _command(command, left, sink)
        if status != 0:
            seconds = time.monotonic() - begun
            if status is None:
                return Ending("cut", f"its {limit:.0f} s were over", seconds)
            return Ending("failed", _last_line(log, start) or f"exit status {status}", seconds)
    return Ending("done", "", time.monotonic() - begun)


def _command(command: tuple[str, ...], seconds: float, sink: object) -> int | None:
    """Return the exit status; None where the time was over."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=sink,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # so that all it starts is ended with it
    )
    try:
        return process.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)


def _last_line(log: Path, start: int) -> str:
    """Return the last line that a command printed, which says what went wrong."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

"""Runs toy studies through the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import study
from harness.engine import driver
from harness.engine.agenda import Agenda, of
from harness.engine.driver import Place
from harness.engine.events import Event, Summary
from harness.engine.executor import Executor
from harness.engine.local import LocalExecutor
from tests.harness.studies import write


def agenda(folder: Path, widths: Sequence[int], **changes: Any) -> Agenda:
    """Return the agenda of a sweep over widths that counts and does not train, unless changed."""
    tree = {"sweep": {"detector.width": list(widths)}, "measure": ["complexity"], **changes}
    loaded = study.load(write(folder, **tree))
    return of(loaded)


def run(
    agenda: Agenda,
    out: Path,
    workers: int = 1,
    *,
    executor: Executor | None = None,
    storage: str | None = None,
    warned: list[str] | None = None,
) -> tuple[Summary, list[Event]]:
    """Run an agenda and return what was told."""
    events: list[Event] = []
    executor = executor or LocalExecutor(["cpu"] * workers)
    warn = (warned if warned is not None else []).append
    return driver.run(agenda, executor, Place(out, storage), events.append, warn), events

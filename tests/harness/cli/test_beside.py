"""Which studies run several trials at a time without being asked."""

from pathlib import Path
from typing import Any

import pytest

from harness import study as studies
from harness.cli import run
from harness.engine import agenda, devices
from tests.harness.studies import write


def workers(folder: Path, given: int | None = None, **changes: Any) -> int:
    todo = agenda.of(studies.load(write(folder, **changes)))
    options = run.Options(
        devices=["cpu"] * (given or 1),
        out=folder,
        storage=None,
        only=[],
        tracker=None,
        report=False,
        workers=given,
    )
    return len(run._beside(todo, options).devices)


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: list(range(16)))
    monkeypatch.setattr(devices, "_memory", lambda: 128 << 30)


def test_the_trials_of_a_sweep_do(tmp_path: Path) -> None:
    sweep = {"detector.width": [1, 2, 3]}
    assert workers(tmp_path, sweep=sweep, measure=["complexity"]) == 3


def test_what_was_asked_for_is_kept(tmp_path: Path) -> None:
    sweep = {"detector.width": [1, 2, 3]}
    assert workers(tmp_path, given=1, sweep=sweep, measure=["complexity"]) == 1


def test_a_search_does_not(tmp_path: Path) -> None:
    """Its trials depend on what was told of those before."""
    search = {
        "trials": 4,
        "sampler": "random",
        "objectives": {"macs": "minimize"},
        "space": {"detector.width": [1, 2, 3, 4]},
    }
    assert workers(tmp_path, sweep={}, search=search, measure=["complexity"]) == 1

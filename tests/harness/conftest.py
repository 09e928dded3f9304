"""Fixtures that tests of the harness share."""

from pathlib import Path

import pytest

from harness.machine import conditions


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody disturb what this process times, whatever else the machine does."""
    monkeypatch.setattr(conditions, "taint", lambda *arguments, **options: [])


@pytest.fixture(scope="session")
def empty_tracker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's without runs, to be copied: making one takes seconds."""
    from harness.tracking import Tracker

    file = tmp_path_factory.mktemp("tracker") / "mlflow.db"
    Tracker(f"sqlite:///{file}").close_stale("toy")
    return file

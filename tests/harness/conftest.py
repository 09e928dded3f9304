"""Fixtures that tests of the harness share."""

import pytest

from harness.machine import conditions


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody disturb what this process times, whatever else the machine does."""
    monkeypatch.setattr(conditions, "taint", lambda *arguments, **options: [])

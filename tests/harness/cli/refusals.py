"""What a command says that refuses."""

from __future__ import annotations

import pytest


def refusal(capfd: pytest.CaptureFixture[str], status: int) -> str:
    """Return the one line on stderr with which a command ended that gave this status."""
    captured = capfd.readouterr()
    assert status == 2, captured.err
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("detbench: error: ")
    return captured.err

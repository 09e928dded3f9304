"""What it costs a study to know the code behind its trials: run with `tox -e bench`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import detectors
from harness.study import sources
from harness.study.code import MEASURED, Code, Fingerprints

SECONDS_AT_FIRST, SECONDS_AFTERWARDS = 1.0, 0.05  # of the processor
NAME = "rtdetr_r18"


def fingerprints() -> Code:
    return Fingerprints(NAME).of(detectors.resolve(NAME), list(MEASURED))


@pytest.mark.benchmark(
    group="fingerprints of the code behind a study", timer=time.process_time, warmup=False
)
@pytest.mark.parametrize("known", [False, True])
def test_code_of_a_study(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Files that no process has read, and files known by size, times and inode from the cache."""
    monkeypatch.setattr(sources, "SETTLED", 0)

    def begin() -> None:
        """Forget what this process knows, as a new one does; and the cache, unless it is known."""
        sources._KNOWN.clear()
        if not known:
            monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / str(len(list(tmp_path.iterdir())))))

    if known:
        monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "known"))
        fingerprints()
    found = benchmark.pedantic(fingerprints, setup=begin, rounds=10)
    assert set(found) == {"detector", "postprocess", *MEASURED} - {"accuracy"} | {
        "training",
        "evaluation",
    }
    if benchmark.enabled:
        limit = SECONDS_AFTERWARDS if known else SECONDS_AT_FIRST
        assert benchmark.stats.stats.median < limit

"""What a typo and a check cost, in processor time of a new process: run with `tox -e bench`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.benchmarks import baseline

ROOT = Path(__file__).parents[2]
SECONDS = 2.0  # of the processor that a refusal may take
LINES = (
    "run nosuch",
    "run quickstart --set detector.backbon.x=1",
    "check quickstart --set recipe.epoch=3",
    "check quickstart --set latency.second=3",
    "train rtmdet_q --data shapes --recipe smoke --out o",
    "evaluate rtmdet_s --data nosuch",
    "measure rtmdet_s --set detector.head.x=2",
    "predict rtmdet_s no.png --out p --weights coco",
    "export rtmdet_q",
    "weights get rtmdet_q",
)


def spent() -> float:
    """Return the processor time of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def started(folder: Path, line: str) -> int:
    """Run the command in a process of its own, and return its exit status."""
    command = [sys.executable, "-m", "harness.cli", *line.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True).returncode


def in_turns(benchmark: Any, folder: Path, line: str, rounds: int) -> int:
    """Run a command in turns with an empty Python; see that it has not become twice as slow.

    Its processor time is compared with that of `python -c pass`, and this ratio with the one that
    is stored: the machine has no part in it.
    """
    empty: list[float] = []

    def start_empty() -> tuple[tuple[Path, str], dict[str, Any]]:
        before = spent()
        subprocess.run([sys.executable, "-c", "pass"], cwd=folder, check=True)
        empty.append(spent() - before)
        return (folder, line), {}

    status: int = benchmark.pedantic(started, setup=start_empty, rounds=rounds, warmup_rounds=1)
    if benchmark.stats is not None:  # as it is when benchmarks are run as tests
        ratio = benchmark.stats.stats.median / median(empty[1:])
        benchmark.extra_info |= {"empty_python": median(empty[1:]), "ratio": ratio}
        assert baseline.doubled({benchmark.name: ratio}, baseline.stored()) == []
    return status


@pytest.mark.benchmark(group="a refusal, processor time", timer=spent, warmup=False)
@pytest.mark.parametrize("line", LINES)
def test_refusal(benchmark: Any, tmp_path: Path, line: str) -> None:
    """What is misspelt or missing; the median has to keep to the limit."""
    assert in_turns(benchmark, tmp_path, line, rounds=5) == 2
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < SECONDS


@pytest.mark.benchmark(group="check of the quickstart, processor time", timer=spent, warmup=False)
def test_check(benchmark: Any, tmp_path: Path) -> None:
    """Every trial is built, without memory; nothing is trained to see how long it takes."""
    line = "check quickstart --no-probe --device cpu"
    assert in_turns(benchmark, tmp_path, line, rounds=2) == 0

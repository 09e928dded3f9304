"""Toy searches."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.records import Record
from harness.study import Study, load
from tests.harness.studies import write

SPACE: dict[str, Any] = {
    "detector.width": {"low": 4, "high": 12, "step": 4},
    "recipe.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "detector.assigner.type": ["Nearest", "Inside"],
    "detector.assigner.topk": {"low": 1, "high": 6, "when": {"detector.assigner.type": "Nearest"}},
    "detector.assigner.shrink": {
        "choices": [0.25, 0.5],
        "when": {"detector.assigner.type": ["Inside"]},
    },
    "detector.input.size": [[32, 32], [64, 64]],
}
SEARCH: dict[str, Any] = {
    "space": SPACE,
    "objectives": {"mAP": "maximize", "latency_ms": "minimize"},
    "constraints": {"params": "<= 2000"},
    "trials": 4,
}


def searching(folder: Path, *, sets: Iterable[str] = (), **changes: Any) -> Study:
    """Load a toy search with some keys of `search:` replaced; None takes a key out."""
    tree = {key: value for key, value in {**SEARCH, **changes}.items() if value is not None}
    return load(write(folder, sweep=None, search=tree), sets=list(sets))


def record(
    trial: str = "t", state: Any = "done", curve: Iterable[float] = (), **metrics: float
) -> Record:
    """Make a record of a trial by what it measured and its mAP by epoch."""
    rows = [{"epoch": float(epoch), "mAP": value} for epoch, value in enumerate(curve, 1)]
    fields: dict[str, Any] = {"study": "toy", "name": trial, "detector": "toy", "seed": 0}
    return Record(
        trial=trial,
        state=state,
        overrides={"detector.width": trial},
        config={},
        metrics=metrics,
        curves=rows,
        **fields,
    )

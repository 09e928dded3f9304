"""`detbench list knobs`: everything that a study of a detector can turn."""

from __future__ import annotations

import json
from typing import Any

from detectors import config as detector_config
from harness import adapters
from harness.cli import console
from harness.cli.console import print_json
from harness.config.data import DataConfig
from harness.config.knobs import describe
from harness.config.latency import LatencyConfig
from harness.config.offers import offer
from harness.config.recipe import Recipe
from harness.config.yaml_source import StudyError


def knobs(name: str, part: str = "", *, as_json: bool) -> int:
    """List everything that a study of a detector can turn.

    Args:
        name: of the detector.
        part: only knobs whose path holds this, in small letters or large; all if it is empty.
        as_json: whether to print JSON.

    Raises:
        StudyError: no knob's path holds it.
    """
    rows = _rows(name)
    found = [row for row in rows if part.lower() in row["knob"].lower()]
    if not found:
        words = [word for row in rows for word in row["knob"].split(".")]
        every = f"detbench list knobs {name}"
        raise StudyError(f"no knob of {name} has {part!r} in its path{offer(part, words, every)}")
    return _show(found, as_json=as_json)


def _rows(name: str) -> list[dict[str, Any]]:
    config = adapters.resolve(name)
    rows = [_knob_row(knob) for knob in detector_config.describe(config)]
    for choice, others in detector_config.alternatives(config).items():
        rows += [{**_knob_row(knob), "when": f"detector.{choice}"} for knob in others]
    for root, kind in (("recipe", Recipe), ("data", DataConfig), ("latency", LatencyConfig)):
        rows += describe(kind, root)
    return rows


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> int:
    if as_json:
        print_json(rows)
        return 0
    shown = [
        {
            **row,
            "default": json.dumps(row["default"]),
            "doc": f"With {row['when']}: {row['doc']}" if "when" in row else row["doc"],
        }
        for row in rows
    ]
    columns = {"knob": "knob", "type": "type", "default": "default", "doc": "meaning"}
    console.stdout().print(console.table(columns, shown))
    return 0


def _knob_row(knob: detector_config.Knob) -> dict[str, Any]:
    return {
        "knob": f"detector.{knob.path}",
        "type": knob.type,
        "default": knob.value,
        "doc": knob.doc,
        "inference_only": knob.inference_only,
    }

"""`detbench train`: train one detector and evaluate it."""

from __future__ import annotations

import json
from pathlib import Path

import detectors
from harness import study as studies
from harness.cli import console
from harness.cli.console import print_json
from harness.cli.models import one_line, show_metrics
from harness.cli.text import say
from harness.records import record
from harness.study import Study
from harness.study.specification import started_from
from harness.training import processes
from harness.trials import trial


def train(study: Study, weights: str | None, out: Path, device: str, *, as_json: bool) -> int:
    """Train and evaluate one detector in this process, and those that `torchrun` started with it.

    Only the first of them shows and keeps anything.
    """
    spec = studies.expand(study)[0]
    if weights is not None:
        detectors.create(spec.setup.detector, weights=weights)
        spec = started_from(spec, Path(weights))
    device = processes.local(device)
    if not processes.is_first():
        return 1 if trial.run(spec, out, device=device).failure else 0
    record.make_folder(out)
    with one_line(spec.detector, spec.recipe) as on_progress:
        result = trial.run(spec, out, device=device, on_progress=on_progress)
    if as_json:
        print_json(json.loads(result.to_json()))
    else:
        show_metrics(result.metrics, f"{spec.detector} on {spec.dataset['name']}")
        say(f"weights, record and detections: {out}")
    if result.failure is not None:
        console.stderr().print(
            f"failed ({result.failure.cause}): {result.failure.message}", markup=False
        )
    return 1 if result.failure else 0

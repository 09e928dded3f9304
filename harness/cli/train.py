"""`detbench train`: train one detector and evaluate it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import study as studies
from harness.cli import console
from harness.cli.models import one_line, say, show_metrics, starting_from
from harness.data.classes import read_choice
from harness.records import record
from harness.study import Study, StudyError
from harness.training import processes
from harness.trials import trial


def train(
    study: Study,
    weights: str | None,
    out: Path,
    device: str,
    *,
    classes: Sequence[str] = (),
    as_json: bool,
) -> int:
    """Train and evaluate one detector in this process, and those that `torchrun` started with it.

    Only the first of them shows and keeps anything.

    Args:
        study: of one trial.
        weights: that the training starts from; None for fresh ones.
        out: folder for weights, record and detections.
        device: as torch spells it.
        classes: which class of the data set is which of the weights', `DATA=MODEL,...`.
        as_json: whether to print JSON.
    """
    spec = studies.expand(study)[0]
    if classes and weights is None:
        raise StudyError("--classes goes with --weights: it says which of their classes are which")
    if weights is not None:
        spec, notes = starting_from(spec, weights, read_choice(classes))
        say(console.stderr(), notes if processes.is_first() else ())
    device = processes.local(device)
    if not processes.is_first():
        return 1 if trial.run(spec, out, device=device).failure else 0
    record.make_folder(out)
    with one_line(spec.detector, spec.recipe) as on_progress:
        result = trial.run(spec, out, device=device, on_progress=on_progress)
    if as_json:
        print(result.to_json())
    else:
        show_metrics(result.metrics, f"{spec.detector} on {spec.dataset['name']}")
        print(f"weights, record and detections: {out}")
    if result.failure is not None:
        console.stderr().print(
            f"failed ({result.failure.cause}): {result.failure.message}", markup=False
        )
    return 1 if result.failure else 0

"""`detbench evaluate`: evaluate one detector."""

from __future__ import annotations

from collections.abc import Sequence

from harness import adapters
from harness import study as studies
from harness.analysis import preparing
from harness.cli import console
from harness.cli.console import print_json
from harness.cli.models import Opened, note, one_line, opened, over, place, show_metrics
from harness.data import fingerprint
from harness.data.classes import read_choice
from harness.machine.locks import sharing
from harness.measure.accuracy import evaluate as evaluation
from harness.records.progress import OnProgress


def evaluate(
    model: str,
    data_name: str,
    weights: str | None,
    sets: Sequence[str],
    device: str,
    *,
    classes: Sequence[str] = (),
    shared: bool = False,
    split: str = "val",
    trust: bool = False,
    as_json: bool,
) -> int:
    """Evaluate one detector.

    Args:
        model: its name, or the folder that a training saved it in.
        data_name: where the images come from.
        weights: None for those beside a saved one, or an untrained one.
        sets: knobs, `PATH=VALUE`.
        device: as torch spells it.
        classes: which class of the data set is which of the weights', `DATA=MODEL,...`.
        shared: whether classes that the weights do not know are left out.
        split: of the data set; the others need not exist.
        trust: whether a folder may name a detector that is not built in.
        as_json: whether to print JSON.
    """
    choice = read_choice(classes, shared=shared)
    changes = studies.changes(sets)
    found = opened(model, data_name, changes, weights, choice, trust=trust, split=split)
    dataset = found.dataset
    with one_line(model, None) as show, sharing(device, show) as on_progress:
        result = evaluation.evaluate(
            found.detector, dataset.split, device=device, on_progress=on_progress
        )
        if adapters.is_foreign(model):
            found = _doubted(found, device, on_progress)
    fingerprint.check_unchanged(dataset)
    if as_json:
        print_json(
            {
                "data": dataset.summary(),
                "protocol": {
                    "max_detections": evaluation.MAX_DETECTIONS,
                    **over(found.shared, split),
                },
                "metrics": result.metrics,
                "details": result.details,
                "notes": found.notes,
            }
        )
    else:
        sizes = result.details.get("input_sizes") or {"": found.detector.config.input.size}
        at = " to ".join(dict.fromkeys(f"{width} x {height}" for height, width in sizes.values()))
        images = f"{len(dataset.split)} images at {at}"
        show_metrics(result.metrics, f"{model} on {place(dataset.name, split)}, {images}")
        note(console.stdout(), found.notes)
    return 0


def _doubted(found: Opened, device: str, on_progress: OnProgress) -> Opened:
    """Add a note where a foreign model's images are better prepared in another way."""
    tried = preparing.try_ways(
        found.detector, found.dataset.split, device=device, on_progress=on_progress
    )
    better = [str(item) for item in tried if item.is_clearly_better]
    said = tuple(f"images may be prepared wrongly: clearly better with {text}" for text in better)
    note(console.stderr(), said)
    return found._replace(notes=(*found.notes, *said))

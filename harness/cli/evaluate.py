"""`detbench evaluate`: evaluate one detector."""

from __future__ import annotations

from collections.abc import Sequence

from harness import study as studies
from harness.cli.console import print_json
from harness.cli.models import one_line, opened, show_metrics
from harness.machine.locks import sharing
from harness.measure.accuracy import evaluate as evaluation


def evaluate(
    model: str,
    data_name: str,
    weights: str | None,
    sets: Sequence[str],
    device: str,
    *,
    trust: bool = False,
    as_json: bool,
) -> int:
    """Evaluate one detector."""
    detector, dataset, _ = opened(model, data_name, studies.changes(sets), weights, trust=trust)
    with one_line(model, None) as show, sharing(device, show) as on_progress:
        result = evaluation.evaluate(detector, dataset.val, device=device, on_progress=on_progress)
    if as_json:
        summary = dataset.summary()
        print_json({"data": summary, "metrics": result.metrics, "details": result.details})
    else:
        show_metrics(result.metrics, f"{model} on {dataset.name}")
    return 0

"""What MLflow's page shows of a study at first: its question, its answer, and a view of its trials.

The page opens on the run that stands for the study, with its trials folded and no figure shown. The
view lists all trials, with the swept knobs as the first columns: it is in the list "Views", and at
`PAGE/#/experiments/ID/runs?viewStateShareKey=detbench`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

from harness.tracking.contents import LONGEST_TAG, short_names

KEY, TITLE = "detbench", "Trials by knob"
TAG = f"mlflow.sharedViewState.{KEY}"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # training, not text and traces
NOTE = "mlflow.note.content"
METRICS = ("mAP", "latency_ms", "params", "macs", "images_per_second")
REST = ("Dataset", "Models", "Source")


def show(client: Any, experiment: str, knobs: Collection[str]) -> None:
    """Have an experiment's list of views hold one of the trials, by the knobs of the study.

    Args:
        client: MLflow's.
        experiment: its id.
        knobs: paths that the study sweeps.
    """
    tags = client.get_experiment(experiment).tags
    state = json.dumps(_state(knobs))
    known = json.loads(tags[TAG]) if TAG in tags else {}
    if known.get("state") != state:
        made = int(1000 * time.time())
        told = {"name": TITLE, "createdAt": made, "updatedAt": made, "state": state}
        client.set_experiment_tag(experiment, TAG, json.dumps(told))


def tell(client: Any, experiment: str, question: str, answer: str) -> None:
    """Describe an experiment by what its study asks, and the answer so far."""
    text = "\n\n".join(filter(None, (question, answer)))
    client.set_experiment_tag(experiment, NOTE, text[:LONGEST_TAG])


def _state(knobs: Collection[str]) -> dict[str, Any]:
    """Return the state of MLflow's page in which it shows the trials side by side."""
    swept = [f"params.`{name}`" for name in sorted(short_names(knobs).values())]
    figures = [f"metrics.`{name}`" for name in METRICS]
    columns = [*swept, "params.`seed`", *figures, *(f"attributes.`{name}`" for name in REST)]
    return {
        "searchFilter": "tags.`detbench.trial` != ''",
        "orderByKey": "metrics.`mAP`",  # sorted by date, trials would be folded away
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
    }

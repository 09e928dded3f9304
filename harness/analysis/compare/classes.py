"""Runs on exports of one data set whose classes have other ids: made comparable, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.compare.runs import Run
from harness.data import Split, classes
from harness.measure.accuracy import detections

REORDERED = "the classes of B's data have other ids than those of A's: matched by name"


def same_truth(first: Split, second: Split) -> bool:
    """Say whether splits hold the same images and objects, whatever the ids of their classes."""
    return _by_name(first) == _by_name(second)


def _by_name(split: Split) -> dict[str, Any]:
    """Return the ground truth with the name of each class in place of its id."""
    truth = split.ground_truth()
    names = {category["id"]: category["name"] for category in truth["categories"]}
    rows = [{**row, "category_id": names[row["category_id"]]} for row in truth["annotations"]]
    rows.sort(key=lambda row: (row["image_id"], row["id"]))
    return {"images": truth["images"], "annotations": rows, "categories": sorted(names.values())}


def with_ids_of(runs: Sequence[Run], own: Split, wanted: Split) -> list[Run]:
    """Return runs whose detections have the category ids of another split of the same classes.

    Args:
        runs: that were evaluated on `own`.
        own: its ids are those of detections that do not name their classes.
        wanted: the other split.
    """
    known = {category.id: category.name for category in own.categories}
    ids = {category.name: category.id for category in wanted.categories}
    found = []
    for run in runs:
        file = run.record.artifacts.get("detections")  # a file of results has none beside it
        names = (file and detections.read_names(run.folder / file)) or known
        rows = [{**row, "category_id": ids[names[row["category_id"]]]} for row in run.detections]
        found.append(run._replace(detections=rows))
    return found


def shared(split: Split, runs: Sequence[Run]) -> tuple[Split, list[Run]]:
    """Return what is over the classes that all runs were evaluated over, by their protocols."""
    names = [category.name for category in split.categories]
    over = set(names).intersection(*(run.record.protocol.get("classes", names) for run in runs))
    part = classes.select(split, [label for label, name in enumerate(names) if name in over])
    ids = set(part.label_to_category_id)
    return part, [
        run._replace(detections=[row for row in run.detections if row["category_id"] in ids])
        for run in runs
    ]

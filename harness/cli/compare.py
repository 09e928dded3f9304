"""`detbench compare`: is the difference between trials real?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import data
from harness.analysis import compare as comparing
from harness.analysis.compare import Comparison, classes, runs
from harness.analysis.compare.differences import Difference
from harness.analysis.compare.runs import CompareError, Run
from harness.cli import answers, console, results
from harness.cli.board import Board
from harness.cli.console import print_json
from harness.config import knobs
from harness.data import Split
from harness.records import Record, snapshot

CLASSES_SHOWN = 10


def compare(
    a: str,
    b: str,
    *,
    data_name: str | None = None,
    alone: bool = False,
    mixed: bool = False,
    as_json: bool = False,
) -> int:
    """Say whether B is better than A.

    Args:
        a: the folder of a trial, or several, separated by commas, that differ by the seed.
        b: likewise.
        data_name: where the data set lies, if not where the records say.
        alone: whether the other seeds of a single trial are left out.
        mixed: whether protocols and data may differ.
        as_json: whether to print JSON.
    """
    if results.is_file(a) or results.is_file(b):
        first, second, own, other = _with_results(a, b, data_name, alone=alone)
        notes = runs.check(first, second, mixed=mixed)
    else:
        first, second = _sides(a, b, alone=alone)
        notes = runs.check(first, second, mixed=mixed)
        own, other = _truths(first[0].record, second[0].record, data_name)
    if set(other.categories) != set(own.categories):
        second = classes.with_ids_of(second, other, own)
        notes = [*notes, classes.REORDERED]
    split, every = classes.shared(own, [*first, *second])
    with Board(console.stderr()) as board:
        board.begin("compare", "compare", None)
        found = comparing.compare(
            every[: len(first)],
            every[len(first) :],
            split,
            notes=notes,
            on_progress=lambda step: board.update("compare", step),
        )
    answer = _answer([*first, *second])
    if as_json:
        print_json(found.plain() | {"answer": answer})
    else:
        _show(found)
        if answer is not None:
            line = f"the whole study {first[0].record.study}: {answer}"
            console.stdout().print(line, markup=False, highlight=False)
    return 0


def _with_results(
    a: str, b: str, data_name: str | None, *, alone: bool
) -> tuple[list[Run], list[Run], Split, Split]:
    """Read sides of which at least one is a file of results, and what each was evaluated on.

    Raises:
        CompareError: a trial was evaluated on something else than what is named.
    """
    assert data_name is not None  # or it is refused before
    truth = data.load_truth(data_name)
    sides, splits = [], []
    for name in (a, b):
        if results.is_file(name):
            sides.append([results.run(name, truth)])
            splits.append(truth.split)
            continue
        folders = [Path(os.path.expanduser(part)) for part in name.split(",")]
        side = [runs.read(folder) for folder in folders]
        split = data.load(_config(side[0].record, None)).val
        if not classes.same_truth(split, truth.split):
            raise CompareError(
                f"{name} was evaluated on other images or objects than those of {data_name}"
            )
        sides.append(side if alone else _with_seeds(side))
        splits.append(split)
    return sides[0], sides[1], splits[0], splits[1]


def _answer(every: Sequence[Run]) -> str | None:
    """Say what the study came to that all these runs are of; None if there is none."""
    folders = {run.folder.resolve().parent for run in every}
    if len(folders) > 1 or len({run.record.study for run in every}) > 1:
        return None
    folder = folders.pop()
    return None if snapshot.load(folder) is None else answers.of_folder(folder)[0]


def _sides(a: str, b: str, *, alone: bool) -> tuple[list[Run], list[Run]]:
    """Read the runs of both sides; a trial brings its other seeds, unless the other is of them."""
    named = [[Path(os.path.expanduser(part)) for part in side.split(",")] for side in (a, b)]
    first, second = ([runs.read(folder) for folder in side] for side in named)
    if alone or runs.same_but_seed(first[0].record, second[0].record):
        return first, second
    return _with_seeds(first), _with_seeds(second)


def _with_seeds(side: list[Run]) -> list[Run]:
    if len(side) > 1:
        return side
    others = runs.other_seeds(side[0].folder)
    return [*side, *(runs.read(folder) for folder in others)]


def _truths(a: Record, b: Record, name: str | None) -> tuple[Split, Split]:
    """Load what both were evaluated on: A's, and B's images, whose classes may have other ids.

    Raises:
        CompareError: it is not what the records say, or the sides saw other images.
    """
    dataset = data.load(_config(a, name))
    planned = a.data.get("fingerprint")
    if dataset.fingerprint != planned:
        raise CompareError(
            f"data set {dataset.name} has fingerprint {dataset.fingerprint}, A was evaluated on"
            f" {planned}; name its data set with --data"
        )
    if b.data.get("fingerprint") != planned:
        other = data.load(_config(b, None))
        if not classes.same_truth(dataset.val, other.val):
            raise CompareError(
                "A and B were evaluated on other images or other ground truth, so no image can be"
                " compared with itself; evaluate both on one data set"
            )
        return dataset.val, other.val
    return dataset.val, dataset.val


def _config(item: Record, name: str | None) -> data.DataConfig:
    changes = {path: value for path, value in item.config.items() if path.startswith("data.")}
    if name is not None:
        changes["data.source"] = name
    return knobs.turn(knobs.start(None, None, "shapes"), changes).data


def _show(found: Comparison) -> None:
    """Print the verdict, then what moved."""
    out = console.stdout()
    for name, side in found.sides.items():
        seeds = ", ".join(str(item["seed"]) for item in side)
        out.print(f"{name}: {side[0]['name']} (seed {seeds})", markup=False, highlight=False)
    for text in (found.words, found.latency.words, *(f"note: {note}" for note in found.notes)):
        out.print(text, markup=False, highlight=False)
    moved_most = found.classes[:CLASSES_SHOWN]
    scores = [_points(item) for item in (found.accuracy, *found.figures)]
    out.print(_table(scores, "figure", "accuracy, in points"))
    title = f"classes that moved most, of {len(found.classes)}; in points of mAP, exploratory"
    out.print(_table([_points(item) for item in moved_most], "class", title))
    counts = [
        {**_row(item, 1, ".1f"), "cost_a": f"{100 * cost.a:.2f}", "cost_b": f"{100 * cost.b:.2f}"}
        for item, cost in zip(found.errors, found.costs, strict=True)
    ]
    title = "numbers of errors by TIDE's kinds, and their cost in points of mAP_50; exploratory"
    out.print(_table(counts, "error", title, {"cost_a": "cost to A", "cost_b": "cost to B"}))
    if found.images:
        moved = [
            {**item._asdict(), "a": f"{100 * item.a:.1f}", "b": f"{100 * item.b:.1f}"}
            for item in found.images
        ]
        columns = {"file_name": "image", "a": "A", "b": "B"}
        out.print(console.table(columns, moved, "images that moved most, AP of each by itself"))


def _table(
    rows: Sequence[dict[str, Any]], heading: str, title: str, more: Mapping[str, str] | None = None
) -> Any:
    columns = {"name": heading, "a": "A", "b": "B", "difference": "B - A"}
    columns |= {"interval": "95 % interval", "told": "significant", **(more or {})}
    return console.table(columns, rows, title)


def _points(item: Difference) -> dict[str, Any]:
    return _row(item, 100, ".2f")


def _told(item: Difference) -> str:
    """Say whether a difference is significant, and why not where its own interval leaves out 0."""
    if item.told_apart:
        return "yes"
    several = f"correction for {item.family} differences" if item.family > 1 else "so few images"
    return f"no: after {several}" if item.corrected_away else "no"


def _row(item: Difference, scale: float, form: str) -> dict[str, Any]:
    interval = None
    if item.low is not None and item.high is not None:
        interval = f"{scale * item.low:+{form}} to {scale * item.high:+{form}}"
    return {
        "name": item.name,
        "a": f"{scale * item.a:{form}}",
        "b": f"{scale * item.b:{form}}",
        "difference": f"{scale * item.difference:+{form}}",
        "interval": interval or f"{item.images} images: too few",
        "told": _told(item),
    }

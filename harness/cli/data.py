"""`detbench data`: check or describe a data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import data
from harness import study as studies
from harness.cli import console
from harness.cli.console import print_json
from harness.config import knobs
from harness.data.check import Size


def check(path: str, split: str | None = None, *, as_json: bool) -> int:
    """Print what is wrong with a data set or a split of it; exit status 1 where it is refused."""
    found = data.check(path, split)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return 0 if found.ok else 1
    rows = [
        {**item.model_dump(), "split": item.split or "both", "examples": ", ".join(item.examples)}
        for item in found.findings
    ]
    keys = ("severity", "split", "code", "count", "message", "examples")
    out = console.stdout()
    if rows:
        out.print(console.table({key: key for key in keys}, rows, path))
    refused = f"{'a study' if split is None else 'an evaluation'} would refuse it"
    sizes = "; ".join(map(_counted, found.sizes))
    verdict = "usable" if found.ok else refused
    out.print(f"{verdict}: {sizes}" if sizes else verdict, markup=False)
    return 0 if found.ok else 1


def _counted(size: Size) -> str:
    """Write how much there is in a split."""
    numbers = {"image": size.images, "box": size.boxes, "class": size.classes}
    plural = {"image": "images", "box": "boxes", "class": "classes"}
    parts = [
        f"{number:,} {word if number == 1 else plural[word]}" for word, number in numbers.items()
    ]
    return f"{size.split} has {', '.join(parts)}"


def show(name: str, sets: Sequence[str], split: str | None = None, *, as_json: bool) -> int:
    """Print the figures of a data set, or of one split."""
    config = knobs.turn(knobs.start(None, None, name), studies.changes(sets)).data
    found = data.describe(data.load(config) if split is None else data.load_split(config, split))
    if as_json:
        print_json(found)
        return 0
    rows = [{"what": key, "value": json.dumps(value)} for key, value in _leaves(found)]
    console.stdout().print(console.table({"what": "what", "value": "value"}, rows))
    return 0


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value

"""`detbench doctor model`: is a model fed as it was trained? Other ways are tried."""

from __future__ import annotations

from collections.abc import Sequence

from harness import study as studies
from harness.analysis import preparing
from harness.analysis.preparing import Tried
from harness.cli import console
from harness.cli.console import print_json
from harness.cli.models import one_line, opened
from harness.data.classes import read_choice
from harness.machine.locks import sharing


def model(
    name: str,
    data_name: str,
    sets: Sequence[str],
    weights: str | None,
    device: str,
    *,
    classes: Sequence[str] = (),
    split: str = "val",
    trust: bool = False,
    as_json: bool,
) -> int:
    """Try other ways to prepare a model's images; 1 if one scores clearly better.

    Args:
        name: of a detector or a folder.
        data_name: where the images come from.
        sets: knobs, `PATH=VALUE`.
        weights: None for those beside a saved one, or of a model that brings its own.
        device: as torch spells it.
        classes: which class of the data set is which of the weights', `DATA=MODEL,...`.
        split: of the data set; the others need not exist.
        trust: whether a folder may name a detector that is not built in.
        as_json: whether to print JSON.
    """
    choice = read_choice(classes, shared=True)
    changes = studies.changes(sets)
    found = opened(name, data_name, changes, weights, choice, trust=trust, split=split)
    with one_line(name, None) as show, sharing(device, show) as on_progress:
        tried = preparing.try_ways(
            found.detector, found.dataset.split, device=device, on_progress=on_progress
        )
    better = [item for item in tried if item.is_clearly_better]
    if as_json:
        rows = [{**item._asdict(), "difference": item.difference._asdict()} for item in tried]
        print_json({"model": name, "ways": rows, "clearly_better": [item.way for item in better]})
    else:
        _show(name, tried, better)
    return int(bool(better))


def _show(name: str, tried: Sequence[Tried], better: Sequence[Tried]) -> None:
    out = console.stdout()
    columns = {"way": "another way", "map": "mAP", "moved": "score of objects, 95 %"}
    rows = [{"way": item.way, "map": f"{item.map:.3f}", "moved": _moved(item)} for item in tried]
    images, own = tried[0].difference.images, tried[0].given_map
    out.print(console.table(columns, rows, f"{name} as it is: mAP {own:.3f} on {images} images"))
    for item in better:
        out.print(f"clearly better with {item}", markup=False, highlight=False)
    if not better:
        out.print("no other way is clearly better", highlight=False)


def _moved(item: Tried) -> str:
    found = item.difference
    if found.low is None or found.high is None:
        return f"{found.difference:+.3f}, too few images"
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"

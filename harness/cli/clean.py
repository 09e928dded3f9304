"""`detbench clean`: list what no study needs, and remove it when asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.cli import console
from harness.cli.console import print_json
from harness.config.yaml_source import StudyError
from harness.engine import leftovers

COLUMNS = {"path": "path", "kind": "what it is", "megabytes": "MB", "age_days": "days old"}


def clean(out: Path, older_than: float, larger_than: float, *, yes: bool, as_json: bool) -> int:
    """List what no study needs.

    Args:
        out: folder of the studies.
        older_than: days since it was changed.
        larger_than: megabytes that removing it frees.
        yes: remove it, too.
        as_json: print JSON.

    Returns:
        The exit status: 1 if something could not be removed.

    Raises:
        StudyError: there is no such folder.
    """
    if not out.is_dir():
        raise StudyError(f"{out}: no such folder; name that of the records with --out")
    found = leftovers.find(out)
    chosen = [
        item
        for item in found.items
        if item.age_days >= older_than and item.bytes / 1e6 >= larger_than
    ]
    wrong = [text for item in chosen if yes and (text := leftovers.remove(item))]
    rows = [{**item._asdict(), "path": str(item.path)} for item in chosen]
    result = {
        "removed": yes,
        "bytes": sum(item.bytes for item in chosen),
        "items": rows,
        "kept": found.kept,
        "not_removed": wrong,
    }
    print_json(result) if as_json else _show(result, out)
    return 1 if wrong else 0


def _show(result: dict[str, Any], out: Path) -> None:
    show = console.stdout()
    rows = [{**row, "megabytes": row["bytes"] / 1e6} for row in result["items"]]
    if rows:
        show.print(console.table(COLUMNS, rows))
    size = f"{len(rows)} items, {result['bytes'] / 1e6:.1f} MB"
    if not rows:
        text = f"{out}: nothing that no study needs"
    elif result["removed"]:
        text = f"removed: {size}"
    else:
        text = f"to be removed with --yes: {size}"
    for line in (text, *(f"kept: {each}" for each in result["kept"])):
        show.print(line, markup=False, highlight=False)
    for line in result["not_removed"]:
        console.stderr().print(f"not removed: {line}", markup=False, highlight=False)

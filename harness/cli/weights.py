"""`detbench weights`: which released weights there are, and getting them before they are needed."""

from __future__ import annotations

import os
from collections.abc import Sequence

from detectors import WeightsError
from harness.cli import console
from harness.cli.board import Board
from harness.cli.console import print_json
from harness.cli.text import say
from harness.released import cache, catalogue, download
from harness.released.catalogue import Entry

COLUMNS = {"name": "name", "here": "here", "published": "hash published", "url": "where from"}


def show(*, as_json: bool) -> int:
    """Print every released file, whether it is here, and how much of its hash is published."""
    items = catalogue.entries()
    if as_json:
        print_json([_row(item) for item in items])
        return 0
    rows = [{**_row(item), "here": _size(item), "published": _published(item)} for item in items]
    console.stdout().print(console.table(COLUMNS, rows))
    say(f"they go to {cache.folder()}; $DETBENCH_CACHE names another place, $DETBENCH_MIRROR")
    say("servers or folders that hold copies of it")
    return 0


def get(names: Sequence[str], *, as_json: bool) -> int:
    """Download released files, each unless it is here; exit status 1 if one cannot be had.

    Raises:
        WeightsError: there is no such file; nothing is downloaded then.
    """
    items = [catalogue.entry(name) for name in dict.fromkeys(names)]
    problems = []
    with Board(console.stderr()) as board:
        for item in items:
            try:
                with board.row(item.name) as on_progress:
                    download.get(item.release, item.file, on_progress)
            except WeightsError as error:
                problems.append(f"{item.name}: {error}")
    if as_json:
        print_json([_row(item) for item in items])
    else:
        for item in items:
            if os.path.isfile(item.file):
                say(f"{item.name}: {item.file}")
    for problem in problems:
        console.stderr().print(problem, markup=False, soft_wrap=True)
    return 1 if problems else 0


def _row(item: Entry) -> dict[str, object]:
    """Return what is known of a file."""
    return {
        "name": item.name,
        "url": item.release.url,
        "sha256": item.release.sha256,
        "file": str(item.file),
        "here": os.path.isfile(item.file),
    }


def _size(item: Entry) -> str:
    return f"{item.file.stat().st_size / 1e6:.1f} MB" if os.path.isfile(item.file) else console.DASH


def _published(item: Entry) -> str:
    digits = len(item.release.sha256 or "")
    return {0: "none", cache.WHOLE: "sha256"}.get(digits, f"{digits} digits of sha256")

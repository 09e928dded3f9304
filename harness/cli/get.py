"""`detbench data get`: COCO 2017, downloaded and unpacked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.cli import console
from harness.cli.board import Board
from harness.cli.console import print_json
from harness.cli.text import say
from harness.config.data import COCO2017, DataError, coco2017_place
from harness.released import coco


def get(splits: Sequence[str], to: Path | None, *, as_json: bool) -> int:
    """Bring the parts of COCO 2017 that are not here; exit status 1 if one cannot be had.

    Args:
        splits: `train`, `val` or both.
        to: the folder; None for that in which `coco2017` is looked for.
        as_json: whether to print JSON.

    Raises:
        DataError: there is no room; nothing is downloaded then.
    """
    usual = coco2017_place()
    folder = Path(os.path.expanduser(to)) if to is not None else usual
    parts = coco.lacking(folder, splits)
    coco.check_room(folder, parts)
    stays, problems = [], []
    with Board(console.stderr()) as board:
        for part in parts:
            try:
                with board.row(part.name) as on_progress:
                    if coco.bring(part, folder, on_progress):
                        stays.append(str(part.file(folder)))
            except DataError as error:
                problems.append(f"{part.name}: {error}")
    if as_json:
        brought = [part.name for part in parts if part.is_here(folder)]
        print_json({"folder": str(folder), "splits": [*splits], "brought": brought})
    elif not problems:
        _tell(folder, splits, bool(parts), stays)
        if folder.absolute() != usual.absolute():
            say(f"set DETBENCH_COCO={folder.absolute()} so that --data {COCO2017} finds it")
    for problem in problems:
        console.stderr().print(problem, markup=False, soft_wrap=True)
    return 1 if problems else 0


def _tell(folder: Path, splits: Sequence[str], brought: bool, stays: Sequence[str]) -> None:
    """Say what is where, and what of it is not needed any more."""
    have = "has" if brought else "already has"
    say(f"{folder}: {have} {' and '.join(splits)} of {COCO2017}")
    if not brought:
        say(f"`detbench data check {folder}` looks at every image")
    for file in stays:
        say(f"{file} is not needed any more")

"""What the scripts share that run the tests several times, each time otherwise."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
USUAL = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}  # as tox sets them


class Counts(NamedTuple):
    """How the tests of one or several runs ended."""

    passed: int
    skipped: int
    failed: list[str]  # names of tests


def parser(script: str, description: str | None, names: Collection[str]) -> argparse.ArgumentParser:
    """Make the command line of a script.

    Args:
        script: its module.
        description: what `--help` says first.
        names: of the ways to run the tests.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m {script}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--list", action="store_true", help="print the names and stop")
    made.add_argument(
        *("--only", "-o"),
        nargs="+",
        choices=names,
        default=list(names),
        metavar="NAME",
        help="what to run, in this order; all if not given",
    )
    made.add_argument(
        "--workers", type=int, default=2, help="processes of pytest-xdist, 0 for none; 2 as in tox"
    )
    made.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="given to pytest")
    return made


def spread(workers: int) -> list[str]:
    """Return pytest's options for a number of processes."""
    return ["-n", str(workers), "--dist", "loadfile"] if workers else []


def read(reports: Path) -> Counts:
    """Count the tests in a folder of JUnit reports."""
    passed, skipped, failed = 0, 0, []
    for report in sorted(reports.glob("*.xml")):
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            if kinds & {"failure", "error"}:
                failed.append(f"{case.get('classname')}::{case.get('name')}")
            elif "skipped" in kinds:
                skipped += 1
            else:
                passed += 1
    return Counts(passed, skipped, failed)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows below each other, the first of them the names of the columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())

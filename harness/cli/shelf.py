"""`detbench list studies` and `list recipes`: what comes along, what it is for, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.cli import console
from harness.cli.console import print_json
from harness.config import library, recipe


def studies(*, as_json: bool) -> int:
    """List the studies that come with the package."""
    files = {name: library.find(name) for name in library.names()}
    return _show(files, as_json=as_json)


def recipes(*, as_json: bool) -> int:
    """List the recipes that come with the package."""
    files = {name: recipe.FOLDER / f"{name}.yaml" for name in recipe.names()}
    return _show(files, as_json=as_json)


def _show(files: Mapping[str, Path], *, as_json: bool) -> int:
    rows = [{"name": name, **library.about(file)._asdict()} for name, file in files.items()]
    if as_json:
        print_json(rows)
        return 0
    for row in rows:
        console.entry(row["name"], row["purpose"], row["cost"] and f"Cost: {row['cost']}")
    return 0

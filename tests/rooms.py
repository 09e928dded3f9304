"""The rooms of the project and the arrows between them; `python -m tests.rooms` prints both.

`test_imports.py` holds the code against the table below, and CONTRIBUTING.md against the code.
"""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = ("detectors", "harness", "reports")


class Room(NamedTuple):
    """A folder of `harness/`."""

    name: str
    level: int  # it may import rooms of lower levels
    holds: str


ROOMS = (
    Room("records", 1, "the record of a trial, progress, and what may be compared"),
    Room("record", 2, "one file: the old name of `records`"),
    Room("config", 2, "every setting and knob, and how YAML becomes them"),
    Room("machine", 2, "what this machine is and does: conditions, energy, locks"),
    Room("data", 3, "data sets, loading, augmentation"),
    Room("tracking", 3, "MLflow and its outbox"),
    Room("released", 3, "released files: which there are, where they lie, how they come here"),
    Room("training", 4, "the loop, optimiser, average of weights, checkpoints, processes"),
    Room("adapters", 5, "foreign models as detectors: their names, configs, networks"),
    Room("measure", 5, "accuracy, complexity, latency, runtimes: as a study's `measure:`"),
    Room("study", 6, "from a study's file to its trials: sweeps, designs, searches"),
    Room("analysis", 7, "is the difference real: comparisons, NMS frontiers, published tables"),
    Room("trials", 7, "one trial from start to record, and what trials share"),
    Room("engine", 8, "who runs what, where, and what happens when a process dies"),
    Room("cli", 9, "the command, one file for each subcommand"),
)
DOORS = {"detectors", "detectors.interface", "detectors.config", "detectors.weights"}
"""What the harness may import of `detectors`."""
ADAPTERS_DOORS = {
    *("detectors.boxes", "detectors.coco", "detectors.contract"),
    *("detectors.postprocess", "detectors.postprocess_config"),
}
"""What the room `adapters` may import of `detectors` besides: it makes detectors, too."""


class Import(NamedTuple):
    """One arrow."""

    importer: str  # module
    imported: str  # module
    place: str  # FILE:LINE
    inside: bool  # whether it stands in a function
    explained: bool  # whether a comment on its line says why

    def __str__(self) -> str:
        return f"{self.place}: {self.importer} imports {self.imported}"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return every module of the packages and its file."""
    files = (file for package in PACKAGES for file in sorted((root / package).rglob("*.py")))
    return {_name(file.relative_to(root)): file for file in files}


def _name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(root: Path = ROOT) -> tuple[Import, ...]:
    """Return every import of the packages, also those in functions and under TYPE_CHECKING.

    `from package import name` is an import of `package.name` where that is a module.
    """
    known = modules(root)
    return tuple(
        Import(module, imported, f"{file.relative_to(root)}:{node.lineno}", inside, explained)
        for module, file in known.items()
        for node, inside, explained in _statements(file.read_text(encoding="utf-8"))
        for imported in sorted(_imported(node, known))
    )


@cache
def _statements(text: str) -> list[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    """Return a file's imports, whether each stands in a function, and whether a comment says why.

    Most tests read every file, and most files are alike.
    """
    lines, tree = text.splitlines(), ast.parse(text)
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    return [
        (node, id(node) in inner, "#" in lines[(node.end_lineno or node.lineno) - 1])
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def _imported(node: ast.Import | ast.ImportFrom, known: dict[str, Path]) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if node.level or node.module is None:
        raise ValueError("relative imports are not used here")
    full = {f"{node.module}.{alias.name}" for alias in node.names}
    return {name if name in known else node.module for name in full}


def room(module: str) -> str:
    """Return the room of a module of the harness, or its package."""
    parts = module.split(".")
    return parts[1] if parts[0] == "harness" and len(parts) > 1 else parts[0]


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """Return which modules of the packages each of them imports."""
    known = modules(root)
    found: dict[str, set[str]] = {name: set() for name in known}
    for item in imports(root):
        if item.imported in known and item.imported != item.importer:
            found[item.importer].add(item.imported)
    return found


def levels(root: Path = ROOT) -> int:
    """Return on how many levels of imports the modules lie.

    Raises:
        CycleError: some import each other in a circle.
    """
    found, level = arrows(root), dict[str, int]()
    for name in TopologicalSorter(found).static_order():
        level[name] = 1 + max((level[other] for other in found[name]), default=0)
    return max(level.values(), default=0)


def table(root: Path = ROOT) -> str:
    """Return the rooms as a table in Markdown, the highest first."""
    rows = ["| level | room | what it holds | files | lines |", "|---|---|---|---|---|"]
    for item in sorted(ROOMS, key=lambda item: -item.level):
        files = sorted((root / "harness" / item.name).rglob("*.py"))
        if files:  # no file by itself
            lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
            rows.append(
                f"| {item.level} | `{item.name}/` | {item.holds} | {len(files)} | {lines} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
    print(f"\n{len(modules())} modules, no circle, {levels()} levels")

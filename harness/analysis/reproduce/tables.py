"""Published tables as data: what was printed, in which units and conditions, and what repeats it.

They are read from studies/papers, one file a paper. Nothing here imports torch; what a table is
made of is in `schema`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.analysis.reproduce.schema import (
    Column,
    Known,
    Meta,
    Paper,
    Repeat,
    Row,
    Scoring,
    Setting,
    Table,
)
from harness.config import library, yaml_source
from harness.config.offers import offer
from harness.config.settings import Settings, first_of
from harness.config.yaml_source import Source, StudyError

LIST = "detbench list tables"
FOLDER = library.FOLDER / "papers"
EXPECTED = "a paper: `meta:` and `tables:`"


def papers() -> list[str]:
    """Return the names of the papers whose tables are here."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def tables(paper: str | None = None) -> list[Table]:
    """Return the tables of a paper, or of all.

    Raises:
        StudyError: there is no such paper, or its file is not what it should be.
    """
    if paper is not None and paper not in papers():
        raise StudyError(f"no paper {paper!r}{offer(paper, papers())}")
    names = papers() if paper is None else [paper]
    return [table for name in names for table in read(FOLDER / f"{name}.yaml").tables]


def load(name: str) -> Table:
    """Return a table by its id, such as `rtmdet/table5b_blocks`.

    Raises:
        StudyError: there is none, naming the nearest.
    """
    paper = name.partition("/")[0]
    found = tables(paper if paper in papers() else None)
    for table in found:
        if table.id == name:
            return table
    ids = [table.id for table in found]
    raise StudyError(f"no published table {name!r}{offer(name, ids, LIST)}")


def named(name: str) -> list[Table]:
    """Return what a name means: a table, all of a paper, or `all`.

    Raises:
        StudyError: there is none, naming the nearest.
    """
    if name == "all":
        return tables()
    if name in papers():
        return tables(name)
    every = tables()
    found = [table for table in every if table.id == name]
    if not found:
        known = [*papers(), *(table.id for table in every)]
        raise StudyError(f"no published table {name!r}{offer(name, known, LIST)}")
    return found


@cache
def read(file: Path) -> Paper:
    """Read and check the tables of a paper.

    Raises:
        StudyError: in one line, with the place of what is wrong.
    """
    source = yaml_source.read(file, EXPECTED, as_text=True)
    try:
        paper = Paper.model_validate(source.value)
    except ValidationError as error:
        raise StudyError(_explain(source, error)) from error
    for number, table in enumerate(paper.tables):
        if table.id.partition("/")[0] != file.stem:
            place = source.place("tables", str(number), "id")
            raise StudyError(
                f"{place}: {table.id} does not begin with the file's name, {file.stem}/"
            )
    return paper


def released(detector: str) -> tuple[str, Column] | None:
    """Return the published operations of a detector as it was released, and how they are counted.

    Args:
        detector: its name.

    Returns:
        What is printed, and its column; None where no zoo has it.
    """
    zoos = (load(zoo) for paper in papers() if (zoo := read(FOLDER / f"{paper}.yaml").meta.zoo))
    for table in zoos:
        column = next(column for column in table.columns if column.metric == "flops")
        for row in table.rows:
            printed = row.cells[column.name]
            if row.repeat and row.repeat.detector == detector and printed is not None:
                return printed, column
    return None


def _explain(source: Source, error: ValidationError) -> str:
    """Say in one line what is wrong with the first part that is refused."""
    first = first_of(error)
    path = tuple(str(step) for step in first["loc"] if step != "cells")
    place, within = source.place(*path), _named(source.value, path)
    if first["type"] == "extra_forbidden":
        known = list(_kind(path[:-1]).model_fields)
        return f"{place}: {within}: unknown key {path[-1]!r}{offer(path[-1], known)}"
    if first["type"] == "missing":
        return f"{place}: {within}: {path[-1]} is missing"
    if first["type"] == "value_error":
        return f"{place}: {within}: {first['msg'].removeprefix('Value error, ')}"
    return f"{place}: {within}: {'.'.join(path[2:])}: {first['msg']}, got {first['input']!r}"


def _kind(path: tuple[str, ...]) -> type[Settings]:
    """Return what the part at a path is."""
    kinds: dict[str, type[Settings]] = {"meta": Meta, "tables": Table, "columns": Column}
    kinds |= {"setting": Setting, "scoring": Scoring, "rows": Row, "differs": Known}
    kinds |= {"repeat": Repeat, "repeats": Repeat}
    return next((kinds[step] for step in reversed(path) if step in kinds), Paper)


def _named(value: Any, path: tuple[str, ...]) -> str:
    """Return the id of the table that a path leads into, else the path."""
    try:
        return str(value["tables"][int(path[1])]["id"])
    except (LookupError, TypeError, ValueError):
        return ".".join(path) or "paper"

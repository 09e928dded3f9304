"""What a shell offers at a tab: studies, detectors, recipes and knobs; it imports no torch.

`detbench --install-completion` sets a shell up. Whatever goes wrong here offers nothing.
"""

from __future__ import annotations

from contextlib import suppress

import typer


def studies(incomplete: str) -> list[str]:
    """Return the studies that come with the package."""
    from harness.config import library  # pydantic's import would be half of the time of --help

    return [name for name in library.names() if name.startswith(incomplete)]


def detectors(incomplete: str) -> list[str]:
    """Return the names of detectors."""
    import detectors as known  # not for --help

    return [name for name in known.names() if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """Return the recipes that come with the package."""
    from harness.config import recipe  # not for --help

    return [name for name in recipe.names() if name.startswith(incomplete)]


def tables(incomplete: str) -> list[str]:
    """Return the published tables, their papers, and `all`."""
    from harness.analysis.reproduce import tables as known  # not for --help

    names = ["all", *known.papers(), *(table.id for table in known.tables())]
    return [name for name in names if name.startswith(incomplete)]


def knobs(context: typer.Context, incomplete: str) -> list[str]:
    """Return the knobs of the detector or of the study that stands before them, each with `=`.

    Of a study these are all that it can turn; of a detector its own, and those of data and latency.
    """
    found: list[str] = []
    with suppress(ValueError):  # nothing of that name
        found = _knobs(context)
    return [f"{path}=" for path in found if path.startswith(incomplete)]


def _knobs(context: typer.Context) -> list[str]:
    from harness import adapters, study  # not for --help
    from harness.config import knobs, recipe  # not for --help

    given = context.params
    words = [
        *filter(None, [given.get("detector")]),
        *context.args,
    ]  # as `--set` waits for its value
    if "name" in given:  # of a data set
        return list(knobs.start(None, None, "shapes").flat())
    if not words:
        return []
    if "study" in given or "studies" in given:
        return list(study.load(words[0]).setup().flat())
    named = given.get("recipe")
    read = recipe.load(named) if named else None
    return list(knobs.start(adapters.resolve(words[0]), read, "shapes").flat())

"""The studies that come with the package, found by name without importing anything heavy."""

from __future__ import annotations

import os
import re
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from harness.config.offers import offer
from harness.config.yaml_source import StudyError

FOLDER = Path(__file__).parents[2] / "studies"
NOT_STUDIES = ("papers", "recipes")


class About(NamedTuple):
    """What one of our files says of itself."""

    purpose: str
    cost: str


def about(file: Path) -> About:
    """Read what a study or a recipe of ours is for, and what it costs, from how it begins.

    Args:
        file: its first lines are comments: what it is, then paragraphs that begin with a word and a
            colon; a study's question is a key of its own.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    comments = [line[1:] for line in takewhile(lambda line: line.startswith("#"), lines)]
    parts: dict[str, list[str]] = {}
    name = ""
    for line in comments:
        begins = re.match(r" ([A-Z]\w+): (.*)", line)
        name, text = begins.groups() if begins else (name, line)
        if not begins and name and not line.startswith("  "):
            name = "else"  # a paragraph without such a word
        parts.setdefault(name, []).append(text.strip())
    question = next((line for line in lines if line.startswith("question: ")), "")
    purpose = question.partition(": ")[2] or " ".join(parts.get("", []))
    return About(purpose, " ".join(parts.get("Cost", [])))


def names() -> list[str]:
    """Return the names of the studies that come with the package."""
    files = (file.relative_to(FOLDER) for file in FOLDER.rglob("*.yaml"))
    return sorted(
        file.with_suffix("").as_posix() for file in files if file.parts[0] not in NOT_STUDIES
    )


def find(name: str) -> Path:
    """Return the file of a study.

    Args:
        name: a file, or a name such as `rtmdet/expand_ratio`.

    Raises:
        StudyError: there is none.
    """
    path, shipped = Path(name), FOLDER / f"{name}.yaml"
    if os.path.isfile(path):
        return path
    if os.path.isfile(shipped):
        return shipped
    raise StudyError(f"no study {name!r}{offer(name, names(), 'detbench list studies')}")

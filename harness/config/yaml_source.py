"""YAML that remembers where each value stands, so that an error can name its line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Path_ = tuple[str, ...]


class StudyError(ValueError):
    """A study that cannot be run as it is written."""


class Source(NamedTuple):
    """A value, and the place of each of its parts."""

    name: str  # the file, as a user would write it
    value: Any
    places: dict[Path_, str]  # keys from the top: "file:line", or the option that set it

    def place(self, *path: str) -> str:
        """Return the place of a part, or of what it is a part of."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.name


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, as everywhere but in YAML 1.1."""


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same, written in C where there is that; its messages say less."""


for _loader in (_Loader, _QuickLoader):
    _loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def read(file: Path) -> Source:
    """Read a file that holds one mapping.

    Raises:
        StudyError: it cannot be read, is not YAML, repeats a key, or holds something else.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{file}: cannot be read: {error}") from error
    node = _compose(text, str(file))
    if not isinstance(node, yaml.MappingNode):
        raise StudyError(f"{file}: expected a study, one `key: value` a line")
    places = {path: f"{file}:{line}" for path, line in _lines(node, (), str(file))}
    return Source(str(file), _construct(node), places)


def value(text: str) -> Any:
    """Read one value, as it would stand in a study.

    Raises:
        StudyError: it is not YAML.
    """
    return _construct(_compose(text, text))


def _construct(node: yaml.Node | None) -> Any:
    return None if node is None else _Loader("").construct_document(node)


def _compose(text: str, name: str) -> yaml.Node | None:
    with contextlib.suppress(yaml.YAMLError):
        quick: yaml.Node | None = yaml.compose(text, _QuickLoader)
        return quick
    try:
        node: yaml.Node | None = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyError(f"{name}{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise StudyError(f"{name}: not YAML: {error}") from error
    return node


def _lines(node: yaml.Node, path: Path_, name: str) -> Iterator[tuple[Path_, int]]:
    """Yield the line of every part, counted from one, a key's own line for a mapping's values."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, item in node.value:
            line = key.start_mark.line + 1
            if str(key.value) in seen:
                raise StudyError(f"{name}:{line}: {key.value!r} stands here a second time")
            seen.add(str(key.value))
            inner = (*path, str(key.value))
            yield inner, line
            yield from _lines(item, inner, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            inner = (*path, str(index))
            yield inner, item.start_mark.line + 1
            yield from _lines(item, inner, name)

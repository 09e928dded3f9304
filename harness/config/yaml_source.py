"""YAML that remembers where each value stands, so that an error can name its line."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Path_ = tuple[str, ...]


DEEPEST = 50  # parts within parts; what a study needs is a tenth of that
MOST_PARTS = 100_000  # once names for parts (`&name`, `*name`) are put in their places
MOST_LETTERS = 1 << 24
SHOWN = 300  # letters of a place in a message: a path, or the text of a value


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


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    number = int(loader.construct_yaml_int(node))
    if number.bit_length() > 64:
        raise yaml.MarkedYAMLError(
            problem="a whole number of more than 64 bits", problem_mark=node.start_mark
        )
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


class _TextLoader(_Loader):
    """The same, but that numbers, `true` and `false` stay as they are written."""


def _text(loader: _TextLoader, node: yaml.ScalarNode) -> str:
    return str(node.value)


for _kind in ("int", "float", "bool", "timestamp"):
    _TextLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _text)


def read(
    file: Path, expected: str = "a study, one `key: value` a line", *, as_text: bool = False
) -> Source:
    """Read a file that holds one mapping.

    Args:
        file: to read.
        expected: what the file should hold, for who named another.
        as_text: whether numbers, `true` and `false` stay text: 8.10 keeps both its digits.

    Raises:
        StudyError: it cannot be read, is not YAML, repeats a key, or holds something else.
    """
    try:
        if not file.is_file():  # a pipe would be waited for
            raise StudyError(f"{file}: cannot be read: it is no file")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{file}: cannot be read: {error}") from error
    node = _compose(text, str(file))
    if not isinstance(node, yaml.MappingNode):
        raise StudyError(f"{file}: expected {expected}")
    places = {path: f"{file}:{line}" for path, line in _parts(node, str(file))}
    loader = _TextLoader if as_text else _Loader
    return Source(str(file), _construct(node, str(file), loader), places)


def value(text: str) -> Any:
    """Read one value, as it would stand in a study.

    Raises:
        StudyError: it is not YAML.
    """
    node = _compose(text, text)
    if node is not None:
        _parts(node, text)
    return _construct(node, text)


def _parts(node: yaml.Node, name: str) -> list[tuple[Path_, int]]:
    """Return path and line of every part.

    Raises:
        StudyError: a key stands twice, or there are too many parts.
    """
    lines = list(itertools.islice(_lines(node, (), name), MOST_PARTS + 1))
    if len(lines) > MOST_PARTS:
        raise StudyError(f"{name}: more than {MOST_PARTS} parts, named ones each time they occur")
    return lines


def _construct(node: yaml.Node | None, name: str, loader: type[_Loader] = _Loader) -> Any:
    try:
        return None if node is None else loader("").construct_document(node)
    except yaml.MarkedYAMLError as error:  # a tag that makes objects, or a list for a key
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyError(f"{name}{line}: not plain YAML: {error.problem}") from error
    except ValueError as error:  # a day that does not exist, a number of thousands of digits
        raise StudyError(f"{name}: not plain YAML: {error}") from error


def _check_shape(text: str, name: str) -> None:
    """Refuse what is too long or too deep to be read, before it is.

    Raises:
        StudyError: it is.
    """
    depth = 0
    if len(text) > MOST_LETTERS:
        raise StudyError(f"{name[:SHOWN]}: more than {MOST_LETTERS} letters")
    with contextlib.suppress(yaml.YAMLError):  # which is told when it is read
        for event in yaml.parse(text, _QuickLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise StudyError(f"{name[:SHOWN]}:{line}: more than {DEEPEST} parts within parts")


def _compose(text: str, name: str) -> yaml.Node | None:
    _check_shape(text, name)
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
    if len(path) > DEEPEST:  # a part that holds itself has no end
        raise StudyError(f"{name}: {'.'.join(path[:3])}: more than {DEEPEST} parts within parts")
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

"""What a file of Python computes, as a hash, and what it imports and reads; nothing of it is run.

Comments, docstrings, layout and where the file lies change nothing. Neither does the version of
Python, as far as that reads the same text alike.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FORM = 3  # counts up whenever the same text would get another fingerprint or imports other modules
LENGTH = 16  # of a fingerprint, hexadecimal digits
SILENT = {"ctx", "kind", "type_comment", "type_ignores"}
"""Parts of the syntax tree that say nothing or depend on the version of Python."""
PYTHON = (".py", ".pyw")
IMPORTERS = ("import_module", "__import__")
MAKES = "makes"  # of a config: the class that is made from it, as `module:class`
JOINERS = ("join", "joinpath")  # of paths
LONGEST = 200  # characters of a text that may name a file
KNOB = "inference_only"
"""Declares a knob with a default, which the hash of a trial holds as the knob's value."""


class Import(NamedTuple):
    """One name that a file imports, from elsewhere than Python itself."""

    binding: str  # what the file calls it
    module: str  # as it is written, with the dots of a relative import
    name: str | None  # in that module; None for the module itself, * for all
    attributes: list[str] | None  # that are looked up in it; None if it is used as a whole
    used: bool  # outside of annotations


class Source(NamedTuple):
    """A file, read."""

    fingerprint: str
    imports: list[Import]
    names: list[str]  # its texts that may name a file, with parts of a path joined
    unknown: bool  # whether it imports a module whose name is not written in it


def load(file: Path) -> Source:
    """Return what a file computes and imports; of what is no Python, the hash of its bytes."""
    if file.suffix in PYTHON:
        return read(file.read_bytes())
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            found.update(block)
    return Source(found.hexdigest()[:LENGTH], [], [], False)


def read(text: bytes) -> Source:
    """Return what a file computes and imports; of what is no Python, what it says."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return Source(hashlib.sha256(text).hexdigest()[:LENGTH], [], [], False)
    parts: list[str] = []
    _write(tree, parts)
    found = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass"))
    modules = _named_modules(tree)
    imports = [Import(name, name, None, None, True) for name in modules if name is not None]
    return Source(
        found.hexdigest()[:LENGTH],
        _imports(tree) + imports,
        sorted({name for node in ast.walk(tree) if (name := _named_file(node))}),
        None in modules,
    )


def fingerprint(*files: Path) -> str:
    """Return the hash of what files compute together."""
    found = [read(file.read_bytes()).fingerprint for file in files]
    return hashlib.sha256("\0".join(found).encode()).hexdigest()[:LENGTH]


def _write(node: ast.AST, parts: list[str]) -> None:
    """Write a syntax tree down, without what computes nothing."""
    kind = type(node)
    if kind is ast.Name:
        parts.append(f"${node.id}")  # type: ignore[attr-defined]
        return
    if kind is ast.Call and _last_name(node.func) == KNOB:  # type: ignore[attr-defined]
        parts.append(f"{KNOB}()")
        return
    parts.append(kind.__name__)
    for name in kind._fields:
        if name in SILENT:
            continue
        value = getattr(node, name, None)
        if value is None and kind is not ast.Constant:
            continue
        if isinstance(value, ast.AST):
            parts.append(name)
            _write(value, parts)
        elif type(value) is not list:
            parts += (name, type(value).__name__, repr(value))
        elif value:
            parts += (name, "[")
            for item in _texts(value) if kind is ast.JoinedStr else _statements(value):
                _write(item, parts) if isinstance(item, ast.AST) else parts.append(repr(item))
            parts.append("]")
    parts.append(")")


def _texts(items: list[Any]) -> Iterator[Any]:
    """Leave out the empty parts of an f-string, which some versions of Python have."""
    return (item for item in items if getattr(item, "value", None) != "")


def _statements(items: list[Any]) -> Iterator[Any]:
    """Leave out docstrings, `pass`, and what only a type checker reads."""
    for item in items:
        kind = type(item)
        if kind is ast.If and _last_name(item.test) == "TYPE_CHECKING":
            yield from _statements(item.orelse)
        elif kind is not ast.Pass and not (kind is ast.Expr and type(item.value) is ast.Constant):
            yield item


def _last_name(value: Any) -> str | None:
    """Return `name` of `name` and of `module.name`."""
    return getattr(value, "attr", None) or getattr(value, "id", None)


class _Uses(NamedTuple):
    """What the code of a file does with names."""

    imports: list[ast.Import | ast.ImportFrom]
    whole: set[str]  # names that are used by themselves
    looked_up: dict[str, set[str]]  # name to the attributes that are looked up in it


def _imports(tree: ast.Module) -> list[Import]:
    uses = _Uses([], set(), {})
    _look(tree, uses)
    found = []
    for node in uses.imports:
        for alias in node.names:
            binding = alias.asname or alias.name
            if isinstance(node, ast.ImportFrom):
                module, name = "." * node.level + (node.module or ""), alias.name
            else:
                module, name = alias.name, None
            if module.partition(".")[0] in sys.stdlib_module_names:
                continue
            first = binding.partition(".")[0]
            looked_up = uses.looked_up.get(first, set())
            only = first not in uses.whole and first == binding and name != "*"
            found.append(
                Import(
                    binding,
                    module,
                    name,
                    sorted(looked_up) if only else None,
                    first in uses.whole or bool(looked_up) or name == "*",
                )
            )
    return found


def _named_modules(tree: ast.Module) -> list[str | None]:
    """Return the modules that are imported by name, None for one whose name is made elsewhere."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    given = [node.args[0] for node in calls if _last_name(node.func) in IMPORTERS and node.args]
    return [*map(_text, given), *_made(tree)]


def _made(tree: ast.Module) -> Iterator[str]:
    """Yield the modules of the classes that configs name, and whose imports they do without."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and _last_name(node.target) == MAKES:
            module, colon, _ = (_text(node.value) or "").partition(":")
            if colon:
                yield module


def _named_file(node: ast.AST) -> str | None:
    """Return the path, or the end of it, that a part of an expression writes."""
    parts: list[ast.AST] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts.append(node.right)
            node = node.left
        parts = [node, *reversed(parts)]
    elif isinstance(node, ast.Call) and _last_name(node.func) in JOINERS:
        parts += node.args
    else:
        parts.append(node)
    texts: list[str] = []
    while parts and (text := _text(parts.pop())) is not None:
        texts.insert(0, text)
    found = "/".join(texts)
    return found if 0 < len(found) <= LONGEST and found.isprintable() else None


def _text(node: ast.AST | None) -> str | None:
    found = node.value if isinstance(node, ast.Constant) else None
    return found if isinstance(found, str) else None


def _look(node: Any, uses: _Uses) -> None:
    """Collect imports and uses of names; annotations compute nothing."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        uses.imports.append(node)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        uses.looked_up.setdefault(node.value.id, set()).add(node.attr)
    elif isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            uses.whole.add(node.id)
    else:
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns"):
                for item in _statements(value) if isinstance(value, list) else (value,):
                    if isinstance(item, ast.AST):
                        _look(item, uses)

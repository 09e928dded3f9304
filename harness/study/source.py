"""A study as it is written, with what the command line changes in it."""

from __future__ import annotations

from typing import Any

from harness.config import yaml_source
from harness.config.offers import offer
from harness.config.yaml_source import Source, StudyError

PARTS = ("search", "racing")  # keys of a study that hold keys of their own


def with_set(source: Source, text: str) -> Source:
    """Apply one `--set PATH=VALUE`.

    Raises:
        StudyError: a text of another form, or an axis that is not swept.
    """
    path, equals, written = text.partition("=")
    place = f"--set {text}"
    if not equals or not path:
        raise StudyError(f"{place}: expected PATH=VALUE")
    value = yaml_source.value(written)
    if path == "weights" and isinstance(value, str):
        place = f"--weights {value}"
    swept = source.value.get("sweep") or {}
    root, _, rest = path.partition(".")
    if root == "sweep" and rest:
        if rest not in swept:
            raise StudyError(
                f"{place}: {rest} is not swept{offer(rest, swept, lead='The axes are')}"
            )
        return replaced(source, ("sweep", rest), value, place)
    if root in PARTS and rest:
        return replaced(source, _within(root, rest), value, place)
    if path in swept:
        raise StudyError(f"{place}: {path} is swept; give its values: --set 'sweep.{path}=[...]'")
    return replaced(source, ("set", path) if "." in path else (path,), value, place)


def replaced(source: Source, path: tuple[str, ...], value: Any, place: str) -> Source:
    """Return the source with one part replaced, and remember by what."""
    tree = _replaced(source.value, path, value)
    kept = {key: where for key, where in source.places.items() if key[: len(path)] != path}
    return Source(source.name, tree, {**kept, path: place})


def _replaced(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    node = dict(tree) if isinstance(tree, dict) else {}
    return {**node, path[0]: _replaced(node.get(path[0]), path[1:], value)}


def _within(root: str, rest: str) -> tuple[str, ...]:
    """Return the keys of a path within a part; the last of them may be a dotted path itself."""
    group, _, inner = rest.partition(".")
    return (root, group, inner) if inner else (root, group)

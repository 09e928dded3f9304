"""Everything that a study can turn: dotted paths into a detector, recipe, data and latency."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from detectors import config as detector_config
from detectors.config import KnobError
from detectors.config import flatten as _flatten_config
from harness.config.data import DataConfig
from harness.config.latency import LatencyConfig
from harness.config.recipe import Recipe
from harness.config.settings import first_of, place
from harness.config.settings import group as _group
from harness.config.weights import Weights

ROOTS = ("detector", "recipe", "data", "latency")
SettingsT = TypeVar("SettingsT", bound=BaseModel)


class Setup(NamedTuple):
    """What one trial is made of."""

    detector: Any  # a frozen dataclass
    recipe: Recipe | None  # None when nothing is trained
    data: DataConfig
    latency: LatencyConfig
    weights: Weights | None = None  # None where the detector starts anew

    def flat(self) -> dict[str, Any]:
        """Return every knob's value by dotted path."""
        values: dict[str, Any] = {}
        for root in ROOTS:
            part = getattr(self, root)
            if part is not None:
                flat = flatten(part) if isinstance(part, BaseModel) else _flatten_config(part)
                values |= {f"{root}.{path}": value for path, value in flat.items()}
        return values | (self.weights.flat() if self.weights else {})


def start(detector: Any, recipe: Recipe | None, source: str) -> Setup:
    """Return a setup in which no knob is turned, on a data set."""
    return Setup(detector, recipe, DataConfig(source=source), validate(LatencyConfig, {}))


def turn(setup: Setup, changes: Mapping[str, Any]) -> Setup:
    """Return a copy with some knobs turned.

    Args:
        setup: what to start from.
        changes: dotted path, root included, to value.

    Raises:
        KnobError: a path that does not exist, or a value of the wrong type.
    """
    by_root: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        root, _, rest = path.partition(".")
        if root not in ROOTS or not rest:
            raise KnobError(_unknown(path, setup.flat()))
        by_root.setdefault(root, {})[rest] = value
    turned = {root: _turn_root(setup, root, inner) for root, inner in by_root.items()}
    return setup._replace(**turned)


def _turn_root(setup: Setup, root: str, changes: Mapping[str, Any]) -> Any:
    part = getattr(setup, root)
    if part is None:
        raise KnobError(f"{root}.{next(iter(changes))}: the study names no {root}; add one")
    if root != "detector":
        return override(part, changes, root)
    try:
        return detector_config.override(part, changes)
    except KnobError as error:
        raise KnobError(f"detector.{error}") from error


def flatten(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return every knob of a group and of the groups in it: dotted path to plain value."""
    plain = settings.model_dump(mode="json")
    values: dict[str, Any] = {}
    for name in type(settings).model_fields:
        inner = getattr(settings, name)
        if isinstance(inner, BaseModel):
            values |= flatten(inner, f"{prefix}{name}.")
        else:
            values[prefix + name] = plain[name]
    return values


def describe(kind: type[BaseModel], root: str) -> list[dict[str, Any]]:
    """Return path, type, default and meaning of every knob of a group and of the groups in it."""
    rows: list[dict[str, Any]] = []
    for name, field in kind.model_fields.items():
        path, inner = f"{root}.{name}", _group(field.annotation)
        if inner is not None:
            rows += describe(inner, path)
            continue
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        doc = " ".join((field.description or "").split())
        row = {"knob": path, "type": _spell(field.annotation), "default": default, "doc": doc}
        rows.append({**row, "inference_only": root == "latency"})
    return rows


def _spell(annotation: Any) -> str:
    """Write a type as a user would."""
    if isinstance(annotation, type) and not get_args(annotation):
        return "none" if annotation is type(None) else annotation.__name__
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _spell(arguments[0])
    if origin is tuple:
        return "[" + ", ".join("..." if a is Ellipsis else _spell(a) for a in arguments) + "]"
    if origin is dict:
        key, value = map(_spell, arguments)
        return f"{{{key}: {value}}}"
    if origin is Literal:
        return " | ".join(map(str, arguments))
    return " | ".join(_spell(option) for option in arguments) or str(annotation)


def override(settings: SettingsT, changes: Mapping[str, Any], root: str) -> SettingsT:
    """Return a copy of a group of settings with some knobs turned; types are not converted.

    Args:
        settings: the group.
        changes: dotted path within the group to value.
        root: what the group is called in errors.

    Raises:
        KnobError: a path that does not exist, or a value that it cannot take.
    """
    tree = settings.model_dump(mode="json")
    for path, value in changes.items():
        *groups, name = path.split(".")
        node = tree
        for group in groups:
            if not isinstance(node.get(group), dict):
                node[group] = {}
            node = node[group]
        node[name] = value
    try:
        return validate(type(settings), tree)
    except ValidationError as error:
        raise KnobError(_explain(error, settings, root)) from error


def validate(kind: type[SettingsT], tree: Any) -> SettingsT:
    """Make a group from plain values, strictly: "1" is no number, and 0.5 no integer.

    Raises:
        ValidationError: a value that does not fit.
    """
    return kind.model_validate(_with_tuples(tree), strict=True)


def _with_tuples(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _with_tuples(value) for key, value in tree.items()}
    return tuple(map(_with_tuples, tree)) if isinstance(tree, list) else tree


def nearest(word: str, known: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    """Return `; did you mean X?` for the closest known word, or a plain semicolon."""
    found = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {found[0]}?" if found else ";"


def _explain(error: ValidationError, settings: BaseModel, root: str) -> str:
    first = first_of(error)
    path = ".".join(filter(None, [root, place(first["loc"])]))
    if first["type"] == "extra_forbidden":
        return _unknown(path, {f"{root}.{k}": v for k, v in flatten(settings).items()})
    message = first["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" + (f", got {first['input']!r}" if first["loc"] else "")


def _unknown(path: str, known: Mapping[str, Any]) -> str:
    """Say that there is no such path, which one may be meant, and what there is."""
    tails = [name for name in known if name.endswith(f".{path}")]
    hint = f"; did you mean {tails[0]}?" if tails else nearest(path, known)
    root = path.partition(".")[0]
    if root == "weights":
        return (
            f"{path}: no knob; weights are named as a whole, by `weights:` or by the values of an"
            " axis `weights`, such as {from: coco, parts: [backbone]}"
        )
    if root not in ROOTS:
        return f"{path}: no such knob{hint} Knobs begin with {', '.join(f'{r}.' for r in ROOTS)}."
    within = ", ".join(name for name in known if name.startswith(f"{root}."))
    return f"{path}: no such knob{hint} There is {within}."

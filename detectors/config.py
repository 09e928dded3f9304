"""Knobs: dotted paths into frozen dataclasses, to list them and to turn them."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import Field, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

ConfigT = TypeVar("ConfigT")


class KnobError(ValueError):
    """A knob that does not exist, or a value that it cannot take."""


class Knob(NamedTuple):
    """One field of a config, as a study sees it."""

    path: str  # dotted, e.g. backbone.expand_ratio
    value: Any
    type: str  # e.g. float, letterbox | stretch
    doc: str
    inference_only: bool  # whether it leaves training untouched
    unsaid: bool = False  # whether hashes of results leave it out


def inference_only(default: Any) -> Any:
    """Declare a field that acts only after training, so that its variants share one training."""
    return field(default=default, metadata={"inference_only": True})


def added_later(default: Any) -> Any:
    """Declare a field that results were made without: at its default, hashes leave it out."""
    return field(default=default, metadata={"added_later": True})


def out_of_result(default: Any) -> Any:
    """Declare a field that hashes of results always leave out, such as the place of a file."""
    return field(default=default, metadata={"out_of_result": True})


def with_presets(default: Any, presets: Mapping[str, Mapping[str, Any]]) -> Any:
    """Declare a field some of whose values, by name, turn further knobs along.

    Args:
        default: of the field.
        presets: by name, the knobs of the whole config that it turns, dotted path to value, unless
            they are turned by themselves. One for a field that is a config itself stands for them.
    """
    return field(default=default, metadata={"presets": presets})


def of_result(config: Any) -> dict[str, Any]:
    """Return the knobs that the hash of a result contains, by dotted path."""
    return {knob.path: knob.value for knob in describe(config) if not knob.unsaid}


def flatten(config: Any) -> dict[str, Any]:
    """Return every knob's value by dotted path; a union's choice stands under `<path>.type`."""
    return {knob.path: knob.value for knob in describe(config)}


def canonical(config: ConfigT) -> ConfigT:
    """Return a copy whose inference-only fields have their declared defaults.

    A config with a method `as_trained` says itself what training makes of it. Configs that lead to
    the same training have the same copy.
    """
    as_trained, values = getattr(config, "as_trained", None), {}
    config = as_trained() if as_trained else config
    for item in fields(config):  # type: ignore[arg-type]
        value = getattr(config, item.name)
        if item.metadata.get("inference_only"):
            values[item.name] = item.default
        elif is_dataclass(value):
            values[item.name] = canonical(value)
    return replace(config, **values)  # type: ignore[type-var]


def describe(config: Any) -> list[Knob]:
    """Return every knob of a config in order of declaration."""
    return list(_walk(config, "", inference=False))


def alternatives(config: Any) -> dict[str, list[Knob]]:
    """Return the knobs that choosing another dataclass of a union would bring.

    Returns:
        For each choice that is not made, as `<path>.type=<name>`, its knobs with their defaults.
    """
    return dict(_others(config, ""))


def override(config: ConfigT, changes: Mapping[str, Any]) -> ConfigT:
    """Return a copy with some knobs turned.

    Args:
        config: a frozen dataclass, nested ones included.
        changes: dotted path to value. A part that is itself a dataclass takes a mapping, whose
            `type` chooses among the alternatives of a union.

    Raises:
        KnobError: a path that does not exist, or a value of the wrong type.
    """
    changed: ConfigT = _apply(config, _tree(_with_presets(config, changes)), "")
    return changed


def _with_presets(config: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put what presets turn beside the changes, which win."""
    found, own = dict[str, Any](), dict(changes)
    for item in fields(config):
        presets, name = item.metadata.get("presets"), own.get(item.name)
        if presets is None or not isinstance(name, str):
            continue
        is_config = is_dataclass(getattr(config, item.name))
        if is_config and name not in presets:
            nearest = difflib.get_close_matches(name, presets, n=1)
            hint = f"did you mean {nearest[0]}? " if nearest else ""
            raise KnobError(
                f"{item.name}: no preset {name!r}; {hint}There is {', '.join(presets)}."
            )
        found |= presets.get(name, {})
        if is_config:
            del own[item.name]
    return found | own


def _walk(config: Any, prefix: str, *, inference: bool) -> Iterator[Knob]:
    hints, docs = get_type_hints(type(config)), _field_docs(config.__class__)
    for item in fields(config):
        value, path = getattr(config, item.name), prefix + item.name
        only = inference or bool(item.metadata.get("inference_only"))
        if is_dataclass(value):
            choices = _dataclasses(hints[item.name])
            if len(choices) > 1:
                names = " | ".join(choice.__name__ for choice in choices)
                doc = docs.get(item.name, "")
                yield Knob(f"{path}.type", type(value).__name__, names, doc, only)
            yield from _walk(value, path + ".", inference=only)
        else:
            unsaid = "out_of_result" in item.metadata or (
                "added_later" in item.metadata and value == item.default
            )
            doc = docs.get(item.name, "")
            yield Knob(path, value, _spell(hints[item.name]), doc, only, unsaid)


def _others(config: Any, prefix: str) -> Iterator[tuple[str, list[Knob]]]:
    hints = get_type_hints(type(config))
    for item in fields(config):
        value, path = getattr(config, item.name), prefix + item.name
        for choice in _dataclasses(hints[item.name]):
            if not isinstance(value, choice):
                knobs = list(_walk(choice(), path + ".", inference=False))
                yield f"{path}.type={choice.__name__}", knobs
        if is_dataclass(value):
            yield from _others(value, path + ".")


def _tree(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted paths into nested mappings."""
    tree: dict[str, Any] = {}
    for path, value in changes.items():
        node, parts = tree, path.split(".")
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise KnobError(f"{path}: another change already sets {part!r} as a whole")
        value = _tree(value) if isinstance(value, Mapping) else value
        if isinstance(value, dict) and isinstance(node.get(parts[-1]), dict):
            node[parts[-1]].update(value)
        elif parts[-1] in node:
            raise KnobError(f"{path}: set more than once, as a whole and in parts")
        else:
            node[parts[-1]] = value
    return tree


def _apply(config: Any, tree: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(type(config))
    known = {item.name: item for item in fields(config)}
    values = {}
    for name, change in tree.items():
        path = prefix + name
        if name not in known:
            raise KnobError(_unknown(path, name, type(config), known))
        values[name] = _value(hints[name], getattr(config, name), change, path)
    try:
        return replace(config, **values)
    except KnobError:
        raise
    except ValueError as error:
        raise KnobError(f"{prefix}{', '.join(values)}: {error}") from error


def _unknown(path: str, name: str, owner: type, known: Mapping[str, Field[Any]]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {path.removesuffix(name)}{nearest[0]}?" if nearest else "."
    return f"{path}: {owner.__name__} has no knob {name!r}{hint} It has {', '.join(known)}."


def _value(annotation: Any, current: Any, change: Any, path: str) -> Any:
    choices = _dataclasses(annotation)
    if not choices or change is None:
        return _check(annotation, change, path)
    if not isinstance(change, Mapping):
        wanted = " or ".join(choice.__name__ for choice in choices)
        raise KnobError(f"{path}: expected the knobs of {wanted}, got {change!r}")
    change = dict(change)
    by_name = {choice.__name__: choice for choice in choices}
    fallback = type(current).__name__ if is_dataclass(current) else next(iter(by_name))
    chosen = change.pop("type", fallback)
    if chosen not in by_name:
        nearest = difflib.get_close_matches(str(chosen), by_name, n=1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        raise KnobError(f"{path}.type: no {chosen!r}; {hint}Choose from {', '.join(by_name)}.")
    base = current if isinstance(current, by_name[chosen]) else by_name[chosen]()
    return _apply(base, change, path + ".")


def _check(annotation: Any, value: Any, path: str) -> Any:
    """Return the value as the annotation's type, or refuse it."""
    converted = _convert(annotation, value)
    if converted is _REFUSED:
        raise KnobError(f"{path}: expected {_spell(annotation)}, got {value!r}")
    return converted


_REFUSED = object()


def _convert(annotation: Any, value: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        results = (_convert(option, value) for option in arguments)
        return next((result for result in results if result is not _REFUSED), _REFUSED)
    if origin is Literal:
        return (
            value
            if any(value is a or (value == a and type(value) is type(a)) for a in arguments)
            else _REFUSED
        )
    if origin is tuple:
        return _convert_tuple(arguments, value)
    return _convert_scalar(annotation, value)


def _convert_tuple(arguments: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return _REFUSED
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        return _REFUSED
    items = tuple(_convert(kind, item) for kind, item in zip(arguments, value, strict=True))
    return _REFUSED if any(item is _REFUSED for item in items) else items


def _convert_scalar(annotation: Any, value: Any) -> Any:
    if annotation is type(None):
        return None if value is None else _REFUSED
    if isinstance(value, bool):
        return value if annotation is bool else _REFUSED
    if annotation is float and isinstance(value, int | float):
        return float(value)
    return value if isinstance(annotation, type) and isinstance(value, annotation) else _REFUSED


def _dataclasses(annotation: Any) -> tuple[type, ...]:
    """Return the dataclasses among an annotation's alternatives."""
    options = (
        get_args(annotation)
        if get_origin(annotation) in (Union, types.UnionType)
        else (annotation,)
    )
    return tuple(option for option in options if isinstance(option, type) and is_dataclass(option))


def _spell(annotation: Any) -> str:
    """Write a type as a user would."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " | ".join(_spell(option) for option in arguments)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple:
        return "[" + ", ".join("..." if a is Ellipsis else _spell(a) for a in arguments) + "]"
    return "none" if annotation is type(None) else str(annotation.__name__)


@cache
def _field_docs(owner: type) -> dict[str, str]:
    """Return the string under each field of a dataclass, by field name; a base's included."""
    docs: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if is_dataclass(base):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
            assert isinstance(body, ast.ClassDef)
            docs |= dict(_documented(body.body))
    return docs


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for item, after in zip(body, body[1:], strict=False):
        if (
            isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
        ):
            yield item.target.id, " ".join(str(after.value.value).split())

"""Groups of knobs: what a study or a recipe may say, and which paths that makes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails


class Settings(BaseModel):
    """A group of knobs read from YAML: frozen, and no key unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("true and false are no values of this knob")
        return value


def place(steps: Iterable[int | str]) -> str:
    """Return the dotted path of an error that pydantic found, without the types that it tried."""
    names = itertools.takewhile(lambda step: isinstance(step, int) or step.isidentifier(), steps)
    return ".".join(map(str, names))


def first_of(error: ValidationError) -> ErrorDetails:
    """Return the one of pydantic's findings that a user is told, in the words of YAML.

    A key that is unknown comes first: most often it is the one that another is missing for.
    """
    found = error.errors()
    first = next((item for item in found if item["type"] == "extra_forbidden"), found[0])
    words = {
        "tuple_type": "expected a list, as in [A, B]",
        "dict_type": "expected keys with values, as in {A: B}",
        "too_short": "expected one at least",
        "string_too_short": "expected a name",
        "string_type": "expected a text",
    }
    if first["type"] in words:
        first["msg"] = words[first["type"]]
    return first


def group(annotation: Any) -> type[BaseModel] | None:
    """Return the group of knobs that a field holds, be it optional; None for a single knob."""
    options = [option for option in get_args(annotation) if option is not type(None)]
    kind = options[0] if len(options) == 1 else annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def knobs(settings: type[BaseModel]) -> list[str]:
    """Return the dotted path of every knob of a group and of the groups in it."""
    paths: list[str] = []
    for name, field in settings.model_fields.items():
        inner = group(field.annotation)
        if inner is not None:
            paths += [f"{name}.{path}" for path in knobs(inner)]
        else:
            paths.append(name)
    return paths

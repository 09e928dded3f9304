"""Groups of knobs: what a study or a recipe may say, and which paths that makes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


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

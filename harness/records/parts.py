"""What pages and plans read of a record's free parts: it has its shape, or is not there.

Whatever else these parts hold stands in the record as it is.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

_OPEN = ConfigDict(extra="allow", strict=True)
_Number = float | Literal["NaN", "Infinity", "-Infinity"]


class _Count(TypedDict):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    median: _Number


class _Latency(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    candidates: _Count | None
    detections: _Count | None


class _Training(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    training: str
    seconds: float
    validated_with: dict[str, Any]


class _Together(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    session: str | int | None


class _Start(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    digest: str
    taken: str
    fresh_parameters: int | None


class _Details(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    start: _Start
    latency: _Latency
    training: _Training
    together: _Together
    reference: str | None
    accuracy: dict[str, Any]
    complexity: dict[str, Any]
    queries: dict[str, Any]
    reused: dict[str, Any]


class _Split(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    images: int


class _Data(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    train: _Split
    val: _Split


class _Environment(TypedDict, total=False):
    __pydantic_config__ = _OPEN  # type: ignore[misc]
    packages: dict[str, Any]
    cpu: dict[str, Any]
    gpu: dict[str, Any]


_KNOWN: dict[str, TypeAdapter[Any]] = {
    "details": TypeAdapter(_Details),
    "data": TypeAdapter(_Data),
    "environment": TypeAdapter(_Environment),
}


def check(part: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a record as it is.

    Raises:
        ValueError: something in it has another shape than is read.
    """
    try:
        _KNOWN[part].validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return value

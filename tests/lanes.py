"""Which parameters of a test are in the default lane, and which in the slow one."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def split(values: Iterable[Any], quick: Container[Any]) -> list[Any]:
    """Return parameters of a test: those that are quick, and the others, marked `slow`."""
    return [
        each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in values
    ]

"""What the config of a foreign model tells beside that of a detector of ours; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from detectors import Release
from detectors.config import KnobError
from detectors.contract import Built, InputConfig


class Foreign(Built):
    """A frozen dataclass that says where a model comes from, what goes in and what comes out.

    A subclass sets `makes` and `kind`, and has at least the fields below. Their place is declared
    with `out_of_result`: what a file holds decides about a result, not where it lies.
    """

    kind: ClassVar[str]
    size_divisor: ClassVar[int] = 1
    brings_weights: ClassVar[bool] = True
    """Whether what is named holds the weights, so that none may be named and nothing is trained."""

    source: str
    """What the user named: a file, a folder, or a name of the library's."""
    classes: tuple[str, ...]
    """Names of the classes by label; none where nothing tells them."""
    input: InputConfig
    postprocess: Any

    @property
    def name(self) -> str:
        """What the model is called in messages."""
        return f"{self.kind}:{self.source}"

    @property
    def num_classes(self) -> int:
        """Number of object classes; 0 where nothing tells it yet."""
        return len(self.classes)

    @property
    def releases(self) -> Mapping[str, Release]:
        """Released weights by what they were trained on, where weights can be named."""
        return {}

    def lacks(self) -> str | None:
        """Say what has to be turned before the model can be run; None where nothing is lacking."""
        return None

    def notes(self) -> tuple[str, ...]:
        """Say what was taken for granted, and what must be known to read the results."""
        return ()


def brings_weights(config: Any) -> bool:
    """Say whether a detector's weights are a part of what its name names."""
    return isinstance(config, Foreign) and config.brings_weights


def check(config: Any) -> None:
    """Refuse a foreign model of which too little is known to run it.

    Raises:
        KnobError: says what is lacking, and which knob would say it.
    """
    lacking = config.lacks() if isinstance(config, Foreign) else None
    if lacking is not None:
        raise KnobError(f"{config.name}: {lacking}")


def notes(config: Any) -> tuple[str, ...]:
    """Say what was taken for granted of a foreign model; nothing of one of ours."""
    return config.notes() if isinstance(config, Foreign) else ()

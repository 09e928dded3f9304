"""Which classes a foreign model knows, and which of a data set's they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.adapters.foreign import Foreign, brings_weights
from harness.data import classes
from harness.data.classes import Choice, ClassError, Known, Matched


def known(config: Any) -> Known | None:
    """Return what a foreign model with weights was trained to find; None for any other detector."""
    if not brings_weights(config):
        return None
    foreign: Foreign = config
    return Known(foreign.name, foreign.num_classes, foreign.classes or None)


def matched(known: Known, data_name: str, wanted: Sequence[str], choice: Choice) -> Matched:
    """Find a foreign model's label for each class of a data set, by name where there are names.

    A model without names that tells as many classes apart as there are has them in their order.

    Raises:
        ClassError: the classes do not go together, or nothing tells which they are.
    """
    if known.names is not None or choice.pairs or choice.in_order:
        return classes.match(known, data_name, wanted, choice)
    if known.num_labels != len(wanted):
        raise ClassError(
            f"{known.owner} names no classes and tells {known.num_labels} apart, data set"
            f" {data_name} has {len(wanted)}; name them by label, such as"
            f" --set detector.classes=[{wanted[0]}]"
        )
    found = classes.match(known, data_name, wanted, Choice(in_order=True))
    said = f"{known.owner} names no classes; its {len(wanted)} are taken for those of {data_name}"
    return found._replace(notes=(f"{said}, in its order",))

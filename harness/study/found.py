"""What a trial starts from, as it was found: weights that are named, or a foreign model's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, TypeAlias

from harness import adapters
from harness.adapters import classes
from harness.config.settings import Settings
from harness.config.weights import Weights
from harness.data import DataSet
from harness.data.classes import Choice, Matched

Labels: TypeAlias = tuple[int | None, ...] | Literal["fresh", "auto", "by_name"] | None


class Start(Settings):
    """Weights that a trial starts from, as they were found."""

    weights: Weights
    """As the study names them."""
    digest: str
    """sha256 of the file's content; where it is not at hand, what is known of it."""
    evaluated: bool = False
    """Whether nothing is trained."""
    parts: tuple[str, ...] | None = None
    """Stages that are taken; None for all."""
    labels: Labels = None
    """Label in the weights of each class; None where they are the same, the study's word as long as
    the weights are not at hand."""
    known: tuple[str, ...] | None = None
    """What the weights' labels mean; None where nothing tells."""
    shared: tuple[str, ...] | None = None
    """Classes that are evaluated over; None for all of the data set."""
    taken: str = ""
    """In one line, what of the weights is taken, and what starts anew."""
    parameters: int | None = None
    """Of the detector; None where the weights are not at hand."""
    fresh_parameters: int | None = None
    """Those of them that start anew."""
    notes: tuple[str, ...] = ()
    """What must be said of the classes."""
    brought: bool = False
    """Whether the weights are a part of what the detector's name names, and so in its config."""

    @property
    def identity(self) -> Any:
        """What of it determines a result."""
        told = [self.digest, self.labels, self.parts]
        while told[1:] and told[-1] is None:
            told.pop()
        return told[0] if len(told) == 1 else told

    @property
    def title(self) -> str:
        """In one line, the weights and what became of them."""
        return "; ".join([f"from {self.weights.source}: {self.taken}", *self.notes])

    def matched(self) -> Matched | None:
        """Return which label each class of the data set is; None where they are the same."""
        return Matched(self.labels, ()) if isinstance(self.labels, tuple) else None


def of_foreign(config: Any, dataset: DataSet, choice: Choice | None) -> Start | None:
    """Match the classes of a foreign model that brings its weights; None for other detectors."""
    known = classes.known(config)
    if known is None:
        return None
    wanted = [category.name for category in dataset.categories]
    choice = replace(choice or Choice(), shared=True)
    found = classes.matched(known, dataset.name, wanted, choice)
    shared = [name for name, label in zip(wanted, found.labels, strict=True) if label is not None]
    return Start(
        weights=Weights(source=known.owner),
        digest=config.sha256,
        evaluated=True,
        labels=None if found.is_same else found.labels,
        known=known.names,
        shared=None if found.is_whole else tuple(shared),
        taken="all of it is in the file",
        fresh_parameters=0,
        notes=(*adapters.notes(config), *found.notes),
        brought=True,
    )

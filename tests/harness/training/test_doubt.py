"""A training that learns nothing is told, and one that learns is not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.config.recipe import Recipe
from harness.training.doubt import doubt

STEPS = 50  # an epoch


def recipe(epochs: int, **changes: Any) -> Recipe:
    return Recipe.model_validate({"epochs": epochs, "batch_size": 8, "lr": 0.001, **changes})


def curves(losses: Sequence[float], accuracy: Mapping[int, float] | None = None) -> list[Any]:
    """Return a row an epoch; some were validated."""
    rows = []
    for epoch, loss in enumerate(losses, 1):
        found = {"mAP": accuracy[epoch]} if accuracy and epoch in accuracy else {}
        rows.append({"epoch": epoch, "step": STEPS * epoch, "loss": loss, **found})
    return rows


def first(rows: Sequence[Any], how: Recipe, *, from_weights: bool = False) -> int | None:
    """Return the first epoch that something is said after."""
    told = (doubt(rows[:end], how, from_weights=from_weights) for end in range(1, len(rows) + 1))
    return next((end for end, text in enumerate(told, 1) if text), None)


FALLING = [2.0 * 0.9**epoch for epoch in range(12)]
LEVEL = [2.0 + 0.01 * (epoch % 2) for epoch in range(12)]


@pytest.mark.parametrize(
    ("losses", "accuracy", "changes", "epoch"),
    [
        (LEVEL, {}, {}, 4),
        (LEVEL, {12: 0.0}, {"warmup_steps": 150}, 6),  # as many steps at the full rate
        (LEVEL, {}, {"warmup_steps": 10_000}, 12),  # which never ends: told in the end
        (FALLING, {2: 0.0, 4: 0.0, 6: 0.0}, {}, 4),
        (FALLING, {2: 0.0, 6: 0.0}, {}, 6),
        (FALLING, {2: 0.3, 6: 0.0}, {}, 6),  # it broke
        ([2.0] * 12, {4: 0.004, 8: 0.006}, {}, 4),
    ],
)
def test_what_learns_nothing_is_told_from_a_third_on(
    losses: list[float], accuracy: dict[int, float], changes: dict[str, Any], epoch: int
) -> None:
    assert first(curves(losses, accuracy), recipe(12, **changes)) == epoch


@pytest.mark.parametrize("start", [2, 3, 5, 8, 11])
@pytest.mark.parametrize("warmup", [0, 100, 400])
@pytest.mark.parametrize("later", [0.5, 3.0])
def test_a_second_stage_is_no_alarm(start: int, warmup: int, later: float) -> None:
    """Another augmentation makes the loss lower or higher at once."""
    losses = [loss if epoch < start else later + loss for epoch, loss in enumerate(FALLING)]
    how = recipe(12, warmup_steps=warmup, last_epochs=12 - start)
    assert first(curves(losses), how) is None
    assert first(curves(losses, {4: 0.01, 8: 0.1, 12: 0.2}), how) is None


def test_weights_are_no_alarm() -> None:
    """They find objects from the start, and their loss need not fall."""
    level = curves([1.0, 1.1, 1.2, 1.1] * 3)
    assert first(level, recipe(12), from_weights=True) is None
    found = curves([1.0, 1.1, 1.2, 1.1] * 3, {4: 0.4, 8: 0.39, 12: 0.4})
    assert first(found, recipe(12), from_weights=True) is None
    assert first(found, recipe(12)) is None
    gone = curves([1.0, 9.0] * 6, {4: 0.0, 8: 0.0, 12: 0.0})
    text = doubt(gone[:4], recipe(12), from_weights=True)
    assert text is not None
    assert "weights to start from" not in text


def test_a_slow_start_is_no_alarm() -> None:
    """As of the quickstart: eight epochs, two of them barely find anything."""
    found = {2: 0.0, 4: 0.002, 6: 0.2, 8: 0.5}
    assert first(curves(FALLING[:8], found), recipe(8, warmup_steps=50)) is None


@pytest.mark.parametrize("epochs", [1, 2])
def test_too_few_epochs_tell_by_their_accuracy_alone(epochs: int) -> None:
    assert first(curves(FALLING[:epochs]), recipe(epochs)) is None
    assert first(curves([2.0]), recipe(1)) is None
    assert first(curves(FALLING[:epochs], {epochs: 0.0}), recipe(epochs)) == epochs


def test_nothing_is_said_of_a_split_without_objects() -> None:
    """Such a validation has no mAP."""
    assert first(curves(FALLING), recipe(12)) is None


def test_it_says_what_to_try() -> None:
    def text(losses: Sequence[float], accuracy: Any = None, **changes: Any) -> str:
        told = doubt(curves(losses, accuracy), recipe(12, **changes))
        assert told is not None
        assert "\n" not in told
        assert "; " not in told, "a caveat is cut there"
        return told

    told = text(LEVEL, {12: 0.0})
    assert told.startswith("mAP 0.000, loss 2.01 (2 in the first epoch) after 12 of 12 epochs: try")
    assert "recipe.lr=0.00025 or 0.004" in told
    assert "`detbench data check`" in told
    assert "`detbench weights list`" in told
    assert "recipe.warmup_steps" not in told
    assert "recipe.lr=0.00025," in text([2.0, *[4.0] * 11]), "which rose: a lower rate alone"
    assert "recipe.warmup_steps below 5000 (of 600 steps)" in text(LEVEL, warmup_steps=5000)
    lags = {"ema_decay": 0.999, "ema_ramp": 1.0}
    assert "recipe.ema_decay below 0.999" in text(FALLING, {12: 0.0}, **lags)
    assert "mAP 0.000 (it was 0.300)" in text(FALLING, {4: 0.3, 12: 0.0})


def test_of_every_course_that_finds_objects_nothing_is_said() -> None:
    """Whatever the loss does."""
    for losses in itertools.product([0.1, 1.0, 10.0], repeat=4):
        assert first(curves(losses, {2: 0.02, 4: 0.02}), recipe(4)) is None

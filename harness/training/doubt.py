"""Whether a training learns: told by its curves while it runs, with what to try where it does not.

Nothing is said before a third of the epochs is over, and before as many steps were taken at the
full rate as warm-up took. What was learnt once counts: a loss that rises when the augmentation
changes is no sign. Nor is a loss that stays where it is once objects are found, as with weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.config.recipe import Recipe

NOTHING = 0.001  # mAP below which nothing is found
LITTLE = 0.02  # mAP from which on the loss is no matter
FALLEN = 0.99  # of the first epoch's loss; what is above has not fallen
RISEN = 1.05  # of the first epoch's loss; what is above has risen
FEW_STEPS = 500  # of a whole training, in which few detectors learn from nothing
APART = 4  # times the learning rate that is tried next

Row = Mapping[str, float]


def doubt(curves: Sequence[Row], recipe: Recipe, *, from_weights: bool = False) -> str | None:
    """Say in one line that a training learns nothing, and what to try; None where it may learn.

    Args:
        curves: the rows of the epochs so far.
        recipe: how it is trained.
        from_weights: whether it starts from weights, with which a loss may stay where it is.
    """
    if not curves or not _counts(curves[-1], recipe):
        return None
    found = [row["mAP"] for row in curves if "mAP" in row]
    judged = [row["mAP"] for row in curves if "mAP" in row and _counts(row, recipe)]
    finds_nothing = bool(judged) and judged[-1] < NOTHING
    may_stay = max(found) >= LITTLE if found else from_weights
    if not finds_nothing and (may_stay or _has_fallen(curves)):
        return None
    first, latest = curves[0].get("loss"), curves[-1].get("loss")
    told = [f"mAP {found[-1]:.3f}" + _fell_from(found)] if found else []
    told += [f"loss {latest:.3g} ({first:.3g} in the first epoch)"] if first and latest else []
    epochs = f"after {round(curves[-1]['epoch'])} of {recipe.epochs} epochs"
    return f"{', '.join(told)} {epochs}: try {', '.join(_tries(curves, recipe, from_weights))}"


def _counts(row: Row, recipe: Recipe) -> bool:
    """Say whether an epoch is late enough to tell; the last is, whatever came before."""
    epoch = round(row["epoch"])
    if epoch >= recipe.epochs:
        return True
    return 3 * epoch >= recipe.epochs and row["step"] >= 2 * recipe.warmup_steps and epoch > 1


def _has_fallen(curves: Sequence[Row]) -> bool:
    """Say whether the loss ever was below its start; one epoch alone cannot tell."""
    losses = [row["loss"] for row in curves if "loss" in row]
    return len(losses) < 2 or min(losses[1:]) < FALLEN * losses[0]


def _fell_from(found: Sequence[float]) -> str:
    return f" (it was {max(found):.3f})" if max(found) >= LITTLE and found[-1] < NOTHING else ""


def _tries(curves: Sequence[Row], recipe: Recipe, from_weights: bool) -> list[str]:
    """Name what most often helps, the likeliest first."""
    steps = round(curves[-1]["step"] * recipe.epochs / curves[-1]["epoch"])
    losses = [row["loss"] for row in curves if "loss" in row]
    risen = len(losses) > 1 and losses[-1] > RISEN * losses[0]
    tries = []
    if 2 * recipe.warmup_steps > steps:
        tries.append(f"recipe.warmup_steps below {recipe.warmup_steps} (of {steps} steps)")
    lower = f"recipe.lr={recipe.lr / APART:.2g}"
    tries.append(lower if risen else f"{lower} or {recipe.lr * APART:.2g}")
    if _average_lags(steps, recipe):
        tries.append(f"recipe.ema_decay below {recipe.ema_decay:g}")
    if steps < FEW_STEPS:
        tries.append(f"more recipe.epochs (these are {steps} steps)")
    tries.append("`detbench data check`")
    return tries if from_weights else [*tries, "weights to start from (`detbench weights list`)"]


def _average_lags(steps: int, recipe: Recipe) -> bool:
    """Say whether the moving average of the weights still holds much of the beginning."""
    if recipe.ema_decay is None:
        return False
    return recipe.ema_ramp < steps and (1 - recipe.ema_decay) * steps < 3

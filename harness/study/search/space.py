"""Spaces: which knobs a search turns, checked against the detector, and drawn by Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from detectors.config import KnobError
from harness.config import knobs
from harness.config.axes import Axis, short
from harness.config.knobs import Setup
from harness.study import fitting
from harness.study.study import NAMED

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Space = Mapping[str, Axis]
MakeSetup: TypeAlias = Callable[[Mapping[str, Any]], Setup]  # from what a trial overrides
ENDS = ("low", "high")
DIGITS = 4  # of a number that is drawn from a range without steps


class SpaceError(ValueError):
    """A space that cannot be searched; `path` is the axis, `part` what of it is wrong."""

    def __init__(self, message: str, path: str, *part: str) -> None:
        super().__init__(message)
        self.path, self.part = path, part


def suggest(trial: BaseTrial, space: Space) -> dict[str, Any]:
    """Let a trial of Optuna choose the knobs that exist under what it chose before.

    Parameters of the trial are named by dotted path. Choices that are lists or mappings stand in
    Optuna as text, such as `[320, 320]` or `SimOTA(topk=10)`; numbers of a range without steps are
    rounded to four digits, the same way each time.

    Args:
        trial: from `study.ask()`, or a `FixedTrial`.
        space: of `checked`.

    Returns:
        Dotted path to value, conditional knobs only where their condition holds.
    """
    overrides: dict[str, Any] = {}
    for path, axis in space.items():
        if axis.holds(overrides):
            overrides[path] = _draw(trial, path, axis)
    return overrides


def contains(space: Space, overrides: Mapping[str, Any]) -> bool:
    """Say whether a search of a space could choose these knobs and values."""
    return overrides.keys() <= space.keys() and all(
        axis.holds(overrides) == (path in overrides)
        and (path not in overrides or _allows(axis, overrides[path]))
        for path, axis in space.items()
    )


def checked(setup: MakeSetup, space: Space) -> dict[str, Axis]:
    """See that every value fits its knob wherever the knob is turned.

    Args:
        setup: returns what a trial of the study is made of.
        space: as the study has it.

    Returns:
        The space, numbers of its ranges as the knobs take them: int or float.

    Raises:
        SpaceError: an unknown knob, a value of the wrong type, an impossible condition.
    """
    for index, path in enumerate(space):
        if path in NAMED and space[path].choices is None:
            raise SpaceError(f"{path} takes choices, and no range", path)
        _check_condition(space, path, list(space)[:index])
    return {path: _fitted(setup, space, path) for path in space}


def _draw(trial: BaseTrial, path: str, axis: Axis) -> Any:
    if axis.choices is not None:
        options = _options(axis)
        return options[trial.suggest_categorical(path, list(options))]
    low, high, step = axis.low, axis.high, axis.step
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(path, low, high, step=int(step or 1), log=axis.log)
    assert low is not None
    assert high is not None
    number = trial.suggest_float(path, low, high, step=step, log=axis.log)
    digits = DIGITS if step is None else 12
    return min(max(float(f"{number:.{digits}g}"), float(low)), float(high))


def _allows(axis: Axis, value: Any) -> bool:
    if axis.choices is not None:
        return short(value) in map(short, axis.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    assert axis.low is not None
    assert axis.high is not None
    steps = 0.0 if axis.step is None else (value - axis.low) / axis.step
    return axis.low <= value <= axis.high and math.isclose(steps, round(steps), abs_tol=1e-6)


def _options(axis: Axis) -> dict[Any, Any]:
    """Return what Optuna chooses among: the value itself, or text that stands for it."""
    scalar = bool | int | float | str | None
    choices = axis.choices or ()
    return {c if isinstance(c, scalar) else short(c): c for c in choices}


def _check_condition(space: Space, path: str, above: list[str]) -> None:
    for other in space[path].when:
        if other not in space:
            hint = knobs.nearest(other, above)
            message = f"{other} is no knob of the space{hint} a condition names one above"
            raise SpaceError(message, path, "when", other)
    for other in _direct(space, path):
        if other not in above:
            raise SpaceError(f"{other} must stand above {path}, which depends on it", path)
        if space[other].choices is None:
            message = f"{other} is a range; a condition needs a knob with choices"
            raise SpaceError(message, path, "when", other)
    for other, allowed in space[path].when.items():
        known = [short(choice) for choice in space[other].choices or ()]
        for text in map(short, allowed):
            if text not in known:
                message = f"{text} is no choice of {other}; it has {', '.join(known)}"
                raise SpaceError(message, path, "when", other)


def _fitted(setup: MakeSetup, space: Space, path: str) -> Axis:
    """Return an axis whose values were all tried in every context in which the knob is turned."""
    axis = space[path]
    contexts = list(_contexts(space, path))
    if not contexts:
        raise SpaceError(f"{path}: its conditions never hold together", path, "when")
    if axis.choices is not None:
        _try_choices(setup, contexts, path, axis.choices)
        return axis
    ends = {end: _tried(setup, contexts, path, end, getattr(axis, end)) for end in ENDS}
    if isinstance(ends["low"], int) and not isinstance(axis.step or 1, int):
        raise SpaceError(f"{path} takes whole numbers, and so does its step", path, "step")
    return axis.model_copy(update=ends)


def _try_choices(
    setup: MakeSetup, contexts: list[dict[str, Any]], path: str, choices: tuple[Any, ...]
) -> None:
    texts = [short(choice) for choice in choices]
    for index, (choice, text) in enumerate(zip(choices, texts, strict=True)):
        if text in texts[:index]:
            raise SpaceError(f"{path}: {text} stands twice among the choices", path, "choices")
        _tried(setup, contexts, path, str(index), choice)


def _tried(
    setup: MakeSetup, contexts: list[dict[str, Any]], path: str, part: str, value: Any
) -> Any:
    """Turn a knob under all that decides on it, and return its value as the config holds it."""
    failed: list[dict[str, Any]] = []
    errors: list[KnobError] = []
    found = value
    for context in contexts:
        try:
            found = setup({**context, path: value}).flat().get(path)
        except KnobError as error:
            failed.append(context)
            errors.append(error)
    if errors:
        form = f"{'choices' if part.isdigit() else 'low'}: ..."
        raise SpaceError(fitting.refusal(errors[0], failed, contexts, form), path, part)
    return found


def _contexts(space: Space, path: str) -> Iterator[dict[str, Any]]:
    """Yield every setting of the knobs that decide whether and how a knob exists."""
    found: list[dict[str, Any]] = [{}]
    for other in (name for name in space if name in _deciding(space, path)):
        grown: list[dict[str, Any]] = []
        for context in found:
            here = [{**context, other: choice} for choice in space[other].choices or ()]
            grown += here if space[other].holds(context) else [context]
        found = grown
    yield from (context for context in found if space[path].holds(context))


def _deciding(space: Space, path: str) -> set[str]:
    """Return the knobs on which another depends, and those on which they do."""
    direct = _direct(space, path)
    return direct.union(*(_deciding(space, other) for other in direct))


def _direct(space: Space, path: str) -> set[str]:
    """Return the knobs of a knob's condition, and those that choose the group it is in."""
    wanted = {*space[path].when, *fitting.deciding(path)}
    return {other for other in wanted if other in space and other != path}

"""Weights that do not fit: which tensor, and which detector or knob they would fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from detectors.config import KnobError, describe, override
from detectors.configs import CONFIGS
from detectors.interface import STAGES, Detector, WeightsError, build_without_memory
from detectors.unwrap import unwrap

LARGEST = 1e18  # of a weight: the square of a larger one is no number of float32
NEAR = 0.5  # share of tensors that have to fit for a detector to be named


def check(
    detector: Detector,
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Any],
    content: Mapping[str, Any],
    parts: Sequence[str] | None,
) -> None:
    """See that weights fit to the last tensor, and that their numbers are numbers.

    Args:
        detector: that takes them.
        wanted: its tensors that are taken.
        given: the weights under its keys.
        content: what the file holds, in which other detectors are looked for.
        parts: the stages that are taken; None for all.

    Raises:
        WeightsError: they do not; names the tensors, and what they would fit.
    """
    if told := _misfit(wanted, given):
        raise WeightsError(f"{told}{_remedy(detector, wanted, given, content, parts)}")
    for key, tensor in wanted.items():
        if told := _wrong_numbers(key, tensor, given[key]):
            raise WeightsError(told)


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Any]) -> str:
    """Say how weights do not fit; nothing where they do."""
    missing = [key for key in wanted if key not in given]
    unknown = [key for key in given if key not in wanted]
    if missing or unknown:
        return (
            "the weights are of another detector or config: "
            f"missing {_some(missing)}; unknown {_some(unknown)}"
        )
    for key, tensor in wanted.items():
        if not isinstance(given[key], Tensor):
            return f"{key}: expected a tensor, got {_kind(given[key])}"
        if given[key].shape != tensor.shape:
            return (
                f"{key}: the weights have shape {list(given[key].shape)}, the detector "
                f"{list(tensor.shape)}"
            )
    return ""


def _wrong_numbers(key: str, wanted: Tensor, given: Tensor) -> str:
    """Say what is wrong with the numbers of a tensor; nothing where they may be weights."""
    if given.is_meta:
        return ""
    wrong = wanted.is_floating_point() and not given.is_floating_point()
    if wrong or given.is_complex() or given.layout != torch.strided:
        return f"{key}: expected numbers like {wanted.dtype}, got {given.dtype}, {given.layout}"
    if given.is_floating_point() and not given.float().abs().le(LARGEST).all():
        return f"{key}: holds numbers that are not finite or beyond {LARGEST:g}; a damaged file?"
    if key.endswith(".running_var") and given.lt(0).any():
        return f"{key}: holds a negative variance; a damaged file?"
    return ""


def _remedy(
    detector: Detector,
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Any],
    content: Mapping[str, Any],
    parts: Sequence[str] | None,
) -> str:
    """Say what the weights would fit."""
    known = sum(key in given for key in wanted) >= NEAR * len(wanted)
    turned = _fitting_knob(detector, wanted, given) if known else None
    if turned is not None:
        return f"; they fit with {turned[0]}: {turned[1]}"
    share, name = 0.0, ""
    for found in _shares(content, parts):
        if found[0] == 1:
            return f"; they fit {found[1]}"
        share, name = max((share, name), found)
    if share >= NEAR:
        return f"; the nearest detector is {name}, where {share:.0%} of the tensors fit"
    return "; no built-in detector is near; build it with the knobs that they were trained with"


def _shares(content: Mapping[str, Any], parts: Sequence[str] | None) -> Iterator[tuple[float, str]]:
    """Yield the share of tensors that fit each built-in detector, for any number of classes."""
    states: dict[type, Mapping[str, Any]] = {}  # by family, whose keys are alike
    for name, config in CONFIGS.items():
        model = _built_in(name)
        if type(config) not in states:
            try:
                states[type(config)] = unwrap(model, content, parts).state
            except WeightsError:
                states[type(config)] = {}
        own, state = model.state_dict(), states[type(config)]
        keys = {key for key in {*own, *state} if parts is None or key.partition(".")[0] in parts}
        if sum(key in own and key in state for key in keys) >= NEAR * len(keys):
            free = model.class_tensors()
            fitting = sum(_fits(own.get(key), state.get(key), free.get(key)) for key in keys)
            yield fitting / len(keys), name


@cache
def _built_in(name: str) -> Detector:
    """Return a detector for its keys and shapes; without memory, many may be kept."""
    return build_without_memory(CONFIGS[name])


def _fits(wanted: Tensor | None, given: Any, free: int | None) -> bool:
    """Say whether a tensor has a shape, up to a dimension that is free."""
    if wanted is None or not isinstance(given, Tensor) or given.dim() != wanted.dim():
        return False
    sides = enumerate(zip(wanted.shape, given.shape, strict=True))
    return all(dim == free or one == other for dim, (one, other) in sides)


def _fitting_knob(
    detector: Detector, wanted: Mapping[str, Tensor], given: Mapping[str, Any]
) -> tuple[str, Any] | None:
    """Return the knob, and its value, that alone makes weights fit."""
    stages = {key.partition(".")[0] for key in wanted}
    wrong = {
        key.partition(".")[0]
        for key in {*wanted, *given}
        if not _fits(wanted.get(key), given.get(key), None)
    }
    first = next((name for name in STAGES if name in wrong), "")  # what follows may follow from it
    for path, value in _turns(detector, given, first):
        try:
            config = override(detector.config, {path: value})
        except KnobError:
            continue
        try:
            state = build_without_memory(config).state_dict()
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            continue
        state = {key: t for key, t in state.items() if key.partition(".")[0] in stages}
        if not _misfit(state, given):
            return path, value
    return None


def _turns(detector: Detector, given: Mapping[str, Any], stage: str) -> Iterator[tuple[str, Any]]:
    """Yield knobs and other values of theirs: of built-in detectors of the kind, and all choices.

    The number of classes comes first, where the shapes tell it; then the knobs of a stage.
    """
    config, own = detector.config, detector.state_dict()
    for key, dim in detector.class_tensors().items():
        if isinstance(given.get(key), Tensor) and given[key].dim() == own[key].dim():
            more = own[key].shape[dim] - config.num_classes
            yield "num_classes", given[key].shape[dim] - more
            break
    kin = [other for other in CONFIGS.values() if type(other) is type(config)]
    known: dict[str, list[Any]] = {}
    for knob in (knob for other in kin for knob in describe(other)):
        known.setdefault(knob.path, []).append(knob.value)
    for knob in describe(config):
        if not knob.inference_only and knob.path.partition(".")[0] == stage:
            yield from ((knob.path, value) for value in _others(knob, known.get(knob.path, [])))


def _others(knob: Any, known: Collection[Any]) -> Iterator[Any]:
    if isinstance(knob.value, bool):
        yield not knob.value
    elif isinstance(knob.value, str):
        yield from (choice for choice in knob.type.split(" | ") if choice != knob.value)
    else:
        seen = [knob.value]
        for value in known:
            if value not in seen:
                seen.append(value)
                yield value


def _kind(value: Any) -> str:
    return getattr(value, "name", None) or f"a {type(value).__name__}"


def _some(keys: list[str], limit: int = 3) -> str:
    if not keys:
        return "none"
    rest = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + rest

"""The state dict inside a file's content, whatever trainer wrapped what around it.

Trainers agree neither on where the weights lie nor on what stands before their keys: mmengine has
`state_dict` and `ema_state_dict`, RT-DETR `model` and `ema.module`, Lightning a prefix that the
user chose, torch's DDP `module.`. So nothing is looked up by name: of all mappings inside, with any
prefix taken from their keys, it is the one that has most of the detector's tensors. Where several
have as many, averaged weights come first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from detectors.interface import Detector, WeightsError
from detectors.unfused import unfused
from detectors.unpickling import Opaque

DEPTH = 4  # of mappings inside mappings, and of prefixes
AVERAGED = re.compile(r"ema|averag|swa|teacher", re.IGNORECASE)
ENOUGH = (
    0.25  # share of the detector's tensors below which a mapping is none of weights; a deployed
)
# model has two tensors for six


class Unwrapped(NamedTuple):
    """The state dict that a file holds for a detector."""

    state: dict[str, Any]  # under the detector's keys
    raw: Mapping[str, Any]  # the same under the keys of the file, without their prefix
    place: str  # where it lay, such as `ema.module`; empty for the file as it is


class _Candidate(NamedTuple):
    place: tuple[str, ...]
    state: dict[str, Any]
    raw: Mapping[str, Any]
    fitting: int


def unwrap(
    detector: Detector, content: Mapping[str, Any], parts: Collection[str] | None = None
) -> Unwrapped:
    """Find the weights of a detector, or those of some of its parts, in a file's content.

    Args:
        detector: whose keys are looked for; its `translate` knows upstream's names.
        content: what `containers.read` returns, or a state dict.
        parts: stages that are looked for; weights of the one alone need not have its name in front.

    Raises:
        WeightsError: `translate` refuses what fits best, or there are objects and no weights.
    """
    own = detector.state_dict()
    wanted = {key for key in own if parts is None or key.partition(".")[0] in parts}
    found: list[_Candidate] = []
    refused: WeightsError | None = None
    for place, raw in _places(content, len(wanted), parts):
        try:
            state = unfused(detector, detector.translate(raw))
        except WeightsError as error:
            refused = refused or error
            continue
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            refused = refused or WeightsError(f"the weights are no state dict: {error}")
            continue
        fitting = sum(key in state for key in wanted)
        found.append(_Candidate(place, _with_tensors(state, own), raw, fitting))
    best = max(found, key=lambda item: (item.fitting, _rank(item, content)), default=None)
    if refused and (best is None or best.fitting < len(wanted) / 2):
        raise refused
    objects = [(key, value) for key, value in content.items() if isinstance(value, Opaque)]
    if objects and (best is None or not best.state):
        key, value = objects[0]
        raise WeightsError(
            f"there are no weights, and {key!r} is an object of {value.name}, which is not loaded"
            " for safety; save a state dict"
        )
    if best is None:
        return Unwrapped({}, {}, "")
    return Unwrapped(best.state, best.raw, ".".join(best.place))


def _places(
    content: Mapping[str, Any], count: int, parts: Collection[str] | None
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every mapping that may be the state dict, with and without prefixes of its keys."""
    for place, mapping in _mappings(content):
        large = sum(isinstance(value, Tensor) for value in mapping.values()) >= ENOUGH * count
        if place and not large and parts is None:
            continue
        yield place, mapping
        yield from _without_prefixes(place, mapping, count if parts is None else 1)
        if parts is not None and len(parts) == 1:
            (part,) = parts
            yield (*place, f"+{part}"), {f"{part}.{key}": value for key, value in mapping.items()}


def _mappings(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every mapping with names for keys, outer ones first, each once."""
    seen, level = {id(content)}, [((), content)]
    for _ in range(DEPTH):
        inner: list[Any] = []
        for place, mapping in level:
            yield place, mapping
            for key, value in mapping.items():
                new = isinstance(value, Mapping) and id(value) not in seen
                if new and all(isinstance(name, str) for name in value):
                    seen.add(id(value))
                    inner.append(((*place, key), value))
        level = inner


def _without_prefixes(
    place: tuple[str, ...], mapping: Mapping[str, Any], count: int, depth: int = DEPTH
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the part of a state dict that stands under each prefix, if it is large enough."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in mapping.items():
        first, dot, rest = key.partition(".")
        if dot and isinstance(value, Tensor):
            groups.setdefault(first, {})[rest] = value
    for first, group in groups.items():
        if len(group) >= ENOUGH * count:
            yield (*place, first), group
            if depth > 1:
                yield from _without_prefixes((*place, first), group, count, depth - 1)


def _rank(item: _Candidate, content: Mapping[str, Any]) -> int:
    """Order what fits equally: averaged weights first, then the outermost.

    Of what does not fit at all, the largest comes first, for the message that says so.

    mmengine exchanges the two when it saves: beside `ema_state_dict`, `state_dict` is averaged.
    Source: open-mmlab/mmengine v0.10.7 mmengine/hooks/ema_hook.py.
    """
    place = item.place
    if not item.fitting:
        return len(item.state)
    if place[:1] == ("ema_state_dict",) and "state_dict" in content:
        return -2 * DEPTH - 1
    averaged = any(AVERAGED.search(name) for name in place)
    return (2 * DEPTH + 1) * averaged - len(place)


def _with_tensors(state: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Leave out what is neither a tensor nor named like one of the detector's."""
    return {key: value for key, value in state.items() if isinstance(value, Tensor) or key in own}

"""From what a user calls weights to a file: a path, or the name of a release."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import detectors
from detectors import PARTS, RELEASES, WEIGHTS_FILE, Release, WeightsError
from detectors.config import KnobError, describe, flatten, override
from harness.records.progress import OnProgress, ignore
from harness.released import cache, download

STAGES = ("backbone", "neck", "head")  # which have weights
FREE = (".freeze_norm", ".frozen_stages")  # knobs that change what learns, and no weights
FEW = 5  # differences, of which an error names all
COUNTER = ".num_batches_tracked"


class Found(NamedTuple):
    """Weights that were asked for."""

    path: Path | None  # of a file, or of a folder of ours; None where it is not at hand
    url: str | None  # None for what is not released
    digest: str
    """Of the content, its sha256, also where that is published and the file not at hand; else
    `sha256:` and the first digits, as published, or `url:` and the address."""
    parts: tuple[str, ...] | None  # stages that it has; None for all
    name: str  # as asked for


def find(
    config: Any,
    source: str,
    *,
    fetch: bool,
    parts: tuple[str, ...] | None = None,
    on_progress: OnProgress = ignore,
) -> Found:
    """Find weights for a detector.

    Args:
        config: of the detector.
        source: a file, a folder of ours, or `coco`, `objects365` or `imagenet`.
        fetch: whether a release that is not at hand is downloaded.
        parts: stages whose weights are wanted, which alone have to fit; None for all there are.
        on_progress: called with the bytes of a download.

    Raises:
        WeightsError: there are no such weights for this detector, the file is another one than was
            released, or it cannot be had.
    """
    if source not in RELEASES:
        return _own(source)
    if (known := getattr(config, "releases", None)) is not None:
        return _released(config, source, known, fetch=fetch, on_progress=on_progress)
    there = PARTS.get(source)
    if parts and there and not {*parts} <= {*there}:
        raise WeightsError(f"weights {source}: have {', '.join(there)} alone, not {parts[-1]}")
    name = _variant(config, source, parts or there or STAGES)
    release = RELEASES[source][name]
    file = cache.place(release.url)
    if not fetch and not os.path.isfile(file):
        return Found(None, release.url, _promised(release), there, source)
    return Found(file, release.url, download.get(release, file, on_progress), there, source)


def _released(
    config: Any, source: str, known: Mapping[str, Release], *, fetch: bool, on_progress: OnProgress
) -> Found:
    """Find a release that a config itself knows, as foreign models' do.

    Raises:
        WeightsError: there is none of this name, or it cannot be had.
    """
    if source not in known:
        there = f"there is {', '.join(known)}" if known else "name a file"
        raise WeightsError(f"weights {source}: none are released for {config.name}; {there}")
    release = known[source]
    file = cache.place(release.url)
    if not fetch and not os.path.isfile(file):
        return Found(None, release.url, _promised(release), None, source)
    return Found(file, release.url, download.get(release, file, on_progress), None, source)


def _promised(release: Release) -> str:
    """Return what is known of a file that is not at hand."""
    if release.sha256 is None:
        return f"url:{release.url}"
    whole = len(release.sha256) == cache.WHOLE
    return release.sha256 if whole else f"sha256:{release.sha256}"


def _own(source: str) -> Found:
    """Find a file, or a folder that a training left."""
    file = own_file(source)
    return Found(Path(os.path.expanduser(source)), None, cache.digest(file), None, source)


def own_file(source: str) -> Path:
    """Return the file of weights that a user names, itself or by its folder.

    Raises:
        WeightsError: there is none.
    """
    path = Path(os.path.expanduser(source))
    try:
        file = path / WEIGHTS_FILE if path.is_dir() else path
        if file.is_file():
            return file
    except OSError as error:  # such as a folder that is not this user's
        raise WeightsError(f"weights {source}: cannot be read: {error.strerror}") from error
    if path.is_dir():
        raise WeightsError(f"{file}: no such file; a folder of weights is one that train left")
    nearest = difflib.get_close_matches(source, RELEASES, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else f", and no {', '.join(RELEASES)}"
    raise WeightsError(f"weights {source}: no such file or folder{hint}")


def _variant(config: Any, source: str, parts: tuple[str, ...]) -> str:
    """Return the name of the detector whose released weights a config's have the shapes of.

    Args:
        config: of any detector, for any number of classes.
        source: a key of `RELEASES`.
        parts: stages that have to fit.

    Raises:
        WeightsError: there is none; names the nearest, and the knobs in which it differs.
    """
    called = _called(config)
    none = f"weights {source}: none are released for {called or f'this {type(config).__name__}'}"
    known = {name: detectors.CONFIGS[name] for name in RELEASES[source]}
    own = [other for other in RELEASES if called in RELEASES[other]]
    there_are = f"there is {', '.join(own)}" if own else f"there are some for {', '.join(known)}"
    differing = {
        name: _differing(config, other, parts)
        for name, other in known.items()
        if type(config) is type(other)
    }
    if not differing:
        raise WeightsError(f"{none}; {there_are}")
    name = min(differing, key=lambda name: len(differing[name]))
    if not differing[name] or _fits(config, known[name], parts):
        return name
    if called or len(differing[name]) > FEW:
        raise WeightsError(f"{none}; {there_are}")
    knobs = ", ".join(f"{path}={value}" for path, value in differing[name].items())
    raise WeightsError(f"{none}; those of {name} would fit with {knobs}")


def _differing(config: Any, other: Any, parts: tuple[str, ...]) -> dict[str, Any]:
    """Return the knobs of some stages in which another config differs, with its values."""
    own = flatten(config)
    return {
        knob.path: knob.value
        for knob in describe(other)
        if knob.path.startswith(tuple(f"{part}." for part in parts))
        and not (knob.inference_only or knob.path.endswith(FREE))
        and own.get(knob.path) != knob.value
    }


def _fits(config: Any, other: Any, parts: tuple[str, ...]) -> bool:
    """Say whether some stages of two detectors have the same tensors, but for their classes."""
    wanted, given, more = (
        _shapes(item, parts)
        for item in (config, other, override(other, {"num_classes": other.num_classes + 1}))
    )
    of_classes = {key for key, shape in given.items() if more[key] != shape}
    kept = {key: shape for key, shape in given.items() if key not in of_classes}
    return kept == {key: shape for key, shape in wanted.items() if key not in of_classes}


def _shapes(config: Any, parts: tuple[str, ...]) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each tensor of some stages; counters, which frozen norms lack, apart."""
    from detectors.interface import build_without_memory  # imports torch

    built = build_without_memory(config)
    return {
        key: tuple(tensor.shape)
        for key, tensor in built.state_dict().items()
        if key.startswith(tuple(f"{part}." for part in parts)) and not key.endswith(COUNTER)
    }


def _called(config: Any) -> str | None:
    """Return the name of a config that has one."""
    named = (name for name, other in detectors.CONFIGS.items() if _same(config, other))
    return next(named, None)


def _same(config: Any, other: Any) -> bool:
    try:
        return bool(override(config, {"num_classes": other.num_classes}) == other)
    except KnobError:  # their number is no knob
        return False

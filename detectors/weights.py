"""Weights on disk: ours in safetensors with the config beside them, and whatever others wrote.

The config names the classes, by label; `detectors.class_names` reads them, of upstream's, too.
"""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from detectors import containers, misfit, rows
from detectors.config import flatten
from detectors.configs import resolve
from detectors.interface import Detector, WeightsError
from detectors.saved import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Resolve,
    saved_config,
    saved_name,
    weights_file,
)
from detectors.unwrap import unwrap

__all__ = [
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "Taken",
    "WeightsError",
    "fill",
    "load",
    "read",
    "save",
    "save_config",
    "saved_name",
]


def save(detector: Detector, folder: Path, name: str, classes: Sequence[str] | None = None) -> Path:
    """Write a detector's weights and its config into a folder, which is made if need be.

    Args:
        detector: any detector but a deployed one.
        folder: where `weights.safetensors` and `config.json` go.
        name: what `detectors.resolve` knows the detector's base config by.
        classes: names of what it was trained to find, by label; None leaves them unknown.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in detector.state_dict().items()}
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)  # which other folders may have a link to
    containers.write(state, folder / WEIGHTS_FILE)
    save_config(detector.config, folder, name, classes)
    shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)  # else it is its owner's alone
    return folder


def save_config(config: Any, folder: Path, name: str, classes: Sequence[str] | None = None) -> None:
    """Write the config that `load` builds a folder's weights with.

    Args:
        config: of a detector.
        folder: where `config.json` goes.
        name: what `detectors.resolve` knows its base by.
        classes: their names by label; None leaves them unknown.
    """
    description: dict[str, Any] = {"detector": name, "knobs": flatten(config)}
    if classes is not None:
        description["classes"] = list(classes)
    (folder / CONFIG_FILE).unlink(missing_ok=True)  # which may be a link to somewhere else
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def load(folder: Path, trusted: Collection[str] = (), resolve: Resolve = resolve) -> Detector:
    """Rebuild the detector that `save` wrote.

    Args:
        folder: with weights and config.
        trusted: names of detectors that are not built in, whose code may run.
        resolve: finds a config by name; `detectors.resolve` or one that knows more.

    Raises:
        WeightsError: a file of the two is missing or damaged, they do not fit together, or the
            config names a detector that is neither built in nor trusted.
        KnobError: the config names a detector or a knob that does not exist.
    """
    config = saved_config(folder, trusted, resolve)
    try:
        model = config.build()
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{Path(folder) / CONFIG_FILE}: cannot be built: {error}") from error
    fill(model, folder)
    return model


def read(path: str | Path) -> dict[str, Any]:
    """Read a file of weights onto the CPU, without running anything that it names.

    Args:
        path: a folder that `save` wrote, or a file of `containers.SUFFIXES`, which is returned as
            it is, with whatever a trainer wrapped around its state dict; see `unwrap`.

    Raises:
        WeightsError: there is no such file, or it is damaged or none of weights.
    """
    file = weights_file(path)
    if file.suffix == ".onnx":
        raise WeightsError(f"{file}: a graph; `detbench weights convert` makes weights of it")
    if file.suffix not in containers.SUFFIXES:
        *most, last = containers.SUFFIXES
        raise WeightsError(f"{file}: weights are read from {', '.join(most)} or {last} files")
    return containers.read(file)


class Taken(NamedTuple):
    """What a detector took from weights."""

    tensors: int  # taken, whole or some of their rows
    fresh: tuple[str, ...]  # keys of the tensors that start anew, whole or some of their rows
    parameters: int  # of the detector
    fresh_parameters: int  # those of them that start anew
    text: str  # all of it in one line


def fill(
    detector: Detector,
    source: str | Path | Mapping[str, Any],
    *,
    parts: Sequence[str] | None = None,
    labels: Sequence[int | None] | Literal["fresh"] | None = None,
) -> Taken:
    """Load weights into a detector; what is taken has to fit to the last tensor.

    Args:
        detector: takes the weights; what it does not take stays as it is.
        source: a path that `read` knows or a state dict, in our keys or in upstream's.
        parts: names of the stages whose tensors are taken, such as `backbone`; None for all.
        labels: the label in the weights of each of the detector's classes, None for a class that
            they lack, whose rows stay as they are; `fresh` leaves all tensors that follow the
            number of classes as they are. None takes the same classes in the same order.

    Raises:
        WeightsError: the weights cannot be read, keys are missing or unknown, shapes differ, a
            number is not finite, or there is no such part or label; says what would fit.
    """
    own = detector.state_dict()
    wanted = _of_parts(own, _known_parts(own, parts))
    content = source if isinstance(source, Mapping) else read(source)
    given = _of_parts(unwrap(detector, content, parts).state, parts)
    of_classes = set(detector.class_tensors()) & wanted.keys() if labels is not None else set()
    state = {key: value for key, value in given.items() if key not in of_classes}
    rest = {key: value for key, value in wanted.items() if key not in of_classes}
    misfit.check(detector, rest, state, content, parts)
    if labels is not None and labels != "fresh":
        moved = rows.chosen(detector, given, labels)
        state |= {key: moved[key] for key in of_classes}
    try:
        detector.load_state_dict({**own, **state})
    except RuntimeError as error:  # such as tensors that are sparse
        raise WeightsError(
            f"the weights cannot be copied: {' '.join(str(error).split())}"
        ) from error
    return _taken(detector, given, state, labels)


def _known_parts(own: Mapping[str, Any], parts: Sequence[str] | None) -> Sequence[str] | None:
    there = list(dict.fromkeys(key.partition(".")[0] for key in own))
    for part in parts or ():
        if part not in there:
            nearest = difflib.get_close_matches(part, there, n=1)
            hint = f"did you mean {nearest[0]}? " if nearest else ""
            raise WeightsError(f"no part {part!r}; {hint}The detector has {', '.join(there)}.")
    return parts


def _of_parts(state: Mapping[str, Any], parts: Sequence[str] | None) -> dict[str, Any]:
    return {k: v for k, v in state.items() if parts is None or k.partition(".")[0] in parts}


def _taken(
    detector: Detector,
    given: Mapping[str, Any],
    state: Mapping[str, Any],
    labels: Sequence[int | None] | Literal["fresh"] | None,
) -> Taken:
    """Count what was taken.

    Args:
        detector: that took it.
        given: the weights under its keys.
        state: what it took of them.
        labels: as `fill` has them.
    """
    own, of_classes = detector.state_dict(), detector.class_tensors() if labels is not None else {}
    without = 0 if labels is None or labels == "fresh" else sum(label is None for label in labels)
    share = {key: without / own[key].shape[dim] for key, dim in of_classes.items() if key in state}
    share |= dict.fromkeys((key for key in own if key not in state), 1.0)
    sizes = {name: value.numel() for name, value in detector.named_parameters()}
    total = sum(sizes.values())
    anew = round(sum(share.get(name, 0.0) * size for name, size in sizes.items()))
    stages = dict.fromkeys(key.partition(".")[0] for key in own if key in state)
    text = f"taken: {', '.join(stages) or 'nothing'}"
    left = [key for key in of_classes if key not in state and key.partition(".")[0] in stages]
    if left:
        count = rows.count_labels(detector, given)
        classes = f" of {count} classes" if count else " that follow the number of classes"
        text += f" without {len(left)} tensors{classes}"
    elif without:
        text += f" without rows for {without} of {len(labels or ())} classes"
    text += f" ({anew / 1e6:.2g} M of {total / 1e6:.2g} M parameters start anew)" if anew else ""
    fresh = tuple(key for key in own if share.get(key))
    return Taken(len(state), fresh, total, anew, text)

"""Weights on disk: ours in safetensors with the config beside them, upstream's in pickles.

The config names the classes, by label; `detectors.class_names` reads them, of upstream's, too.
"""

from __future__ import annotations

import difflib
import json
import pickle
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detectors import rows
from detectors.config import flatten, override
from detectors.configs import is_trusted, resolve
from detectors.interface import Detector, WeightsError

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"


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
    save_file(state, folder / WEIGHTS_FILE)
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


def load(folder: Path, trusted: Collection[str] = ()) -> Detector:
    """Rebuild the detector that `save` wrote.

    Args:
        folder: with weights and config.
        trusted: names of detectors that are not built in, whose code may run.

    Raises:
        WeightsError: a file of the two is missing or damaged, they do not fit together, or the
            config names a detector that is neither built in nor trusted.
        KnobError: the config names a detector or a knob that does not exist.
    """
    name, knobs = _description(folder)
    if not is_trusted(name, trusted):
        raise WeightsError(
            f"{Path(folder) / CONFIG_FILE}: names the detector {name}, which is code that is not"
            " built in; if you trust it, add --trust"
        )
    config = override(resolve(name), knobs)
    try:
        model = config.build()
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{Path(folder) / CONFIG_FILE}: cannot be built: {error}") from error
    fill(model, folder)
    return model


def saved_name(folder: Path) -> str:
    """Return the name of the detector that a folder's config has; nothing is looked up.

    Raises:
        WeightsError: the config is missing or damaged.
    """
    return _description(folder)[0]


def _description(folder: Path) -> tuple[str, dict[str, Any]]:
    file = Path(folder) / CONFIG_FILE
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        name, knobs = description["detector"], description["knobs"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{file}: no config of a saved detector: {error}") from error
    if not isinstance(name, str) or not isinstance(knobs, dict):
        raise WeightsError(f"{file}: no config of a saved detector: {type(name)}, {type(knobs)}")
    return name, knobs


def read(path: str | Path) -> dict[str, Any]:
    """Read a state dict onto the CPU.

    Args:
        path: a `.safetensors` file, a folder that `save` wrote, or a `.pth` or `.pt` file, which is
            returned as it is, with whatever upstream wrapped around its state dict.

    Raises:
        WeightsError: there is no such file, or it cannot be read safely.
    """
    file = Path(path)
    file = file / WEIGHTS_FILE if file.is_dir() else file
    if not file.is_file():
        raise WeightsError(f"{file}: no such file")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    if file.suffix in (".pth", ".pt"):
        return _read_pickle(file)
    raise WeightsError(f"{file}: weights are read from .safetensors, .pth or .pt files")


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
        WeightsError: the weights cannot be read, keys are missing or unknown, shapes differ, or
            there is no such part or label.
    """
    own = detector.state_dict()
    wanted = _of_parts(own, _known_parts(own, parts))
    given = _of_parts(_translated(detector, source), parts)
    of_classes = set(detector.class_tensors()) & wanted.keys() if labels is not None else set()
    state = {key: value for key, value in given.items() if key not in of_classes}
    _check({key: value for key, value in wanted.items() if key not in of_classes}, state)
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


def _translated(detector: Detector, source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    content = source if isinstance(source, Mapping) else read(source)
    try:
        return detector.translate(content)
    except WeightsError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"the weights are no state dict: {error}") from error


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
    count = rows.count_labels(detector, given)
    if left:
        classes = f" of {count} classes" if count else " that follow the number of classes"
        text += f" without {len(left)} tensors{classes}"
    elif without:
        text += f" without rows for {without} of {len(labels or ())} classes"
    text += f" ({anew / 1e6:.2g} M of {total / 1e6:.2g} M parameters start anew)" if anew else ""
    fresh = tuple(key for key in own if share.get(key))
    return Taken(len(state), fresh, total, anew, text)


def _read_safetensors(file: Path) -> dict[str, Any]:
    try:
        return load_file(file)
    except (SafetensorError, ArithmeticError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{file}: not a safetensors file: {error}") from error


def _read_pickle(file: Path) -> dict[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{file}: holds more than tensors and plain values, which is not loaded for safety;"
            " save its state dict alone, from an environment that you trust"
        ) from error
    except Exception as error:  # torch names no class for all ways in which a file is damaged
        raise WeightsError(f"{file}: not a file that torch.save wrote: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        kind = "dict with other keys" if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"{file}: holds a {kind}, expected a state dict")
    return content


def _check(wanted: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
    missing = [key for key in wanted if key not in given]
    unknown = [key for key in given if key not in wanted]
    if missing or unknown:
        raise WeightsError(
            "the weights are of another detector or config: "
            f"missing {_some(missing)}; unknown {_some(unknown)}"
        )
    for key, tensor in wanted.items():
        if not isinstance(given[key], Tensor):
            raise WeightsError(f"{key}: expected a tensor, got a {type(given[key]).__name__}")
        if given[key].shape != tensor.shape:
            raise WeightsError(
                f"{key}: the weights have shape {list(given[key].shape)}, the detector "
                f"{list(tensor.shape)}; build it with the knobs that the weights were trained with"
            )


def _some(keys: list[str], limit: int = 3) -> str:
    if not keys:
        return "none"
    rest = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + rest

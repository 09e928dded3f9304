"""Folders of saved detectors: their files, and the config in them, which is read without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from detectors.config import override
from detectors.configs import is_trusted, resolve
from detectors.contract import WeightsError

if TYPE_CHECKING:
    from detectors.interface import DetectorConfig

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"


Resolve: TypeAlias = Callable[[str], Any]
"""Finds a config by name, as `detectors.resolve` does."""


def saved_config(
    folder: Path, trusted: Collection[str] = (), resolve: Resolve = resolve
) -> DetectorConfig:
    """Return the config of the detector in a folder; its weights are not looked at.

    Args:
        folder: that `detectors.weights.save` wrote.
        trusted: names of detectors that are not built in, whose code may run.
        resolve: finds a config by name; `detectors.resolve` or one that knows more.

    Raises:
        WeightsError: the config is missing or damaged, or names a detector that is neither built in
            nor trusted.
        KnobError: it names a detector or a knob that does not exist.
    """
    name, knobs = _description(folder)
    if not is_trusted(name, trusted):
        raise WeightsError(
            f"{Path(folder) / CONFIG_FILE}: names the detector {name}, which is code that is not"
            " built in; if you trust it, add --trust"
        )
    config: DetectorConfig = override(resolve(name), knobs)
    return config


def weights_file(path: str | Path) -> Path:
    """Return the file of weights that a path means, itself or inside a folder.

    Raises:
        WeightsError: there is none.
    """
    file = Path(path)
    try:
        file = file / WEIGHTS_FILE if file.is_dir() else file
        is_there = file.is_file()
    except OSError as error:  # such as a folder that is not this user's
        raise WeightsError(f"{file}: cannot be read: {error.strerror}") from error
    if not is_there:
        raise WeightsError(f"{file}: no such file")
    return file


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

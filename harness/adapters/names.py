"""Names of detectors, foreign ones included: the one place in which a name becomes a config."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml

import detectors
from detectors.config import KnobError, override
from harness.adapters.foreign import Foreign

KINDS = {
    "onnx": "harness.adapters.onnx.config:read",
    "torchvision": "harness.adapters.torchvision.config:read",
    "transformers": "harness.adapters.transformers.config:read",
}
"""What stands before the colon of a foreign name, to the function that makes a config of the rest.

A kind wins over a module of the user's own that is called the same: no such module is imported.
"""


_KNOBS = re.compile(r"(@[a-z_]+(\.[a-z_]+)*=[^@]*)+$")


def is_foreign(name: str) -> bool:
    """Say whether a name is that of a foreign model, such as `onnx:FILE`."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and kind in KINDS


def resolve(name: str) -> Any:
    """Return the config that goes by a name.

    Args:
        name: what `detectors.resolve` knows, or a foreign one: a kind of `KINDS`, a colon, which
            model of that kind is meant, and knobs of it alone, such as `@input=yolox`.

    Raises:
        KnobError: there is none of that name, or it cannot be read; in one line.
    """
    if not is_foreign(name):
        return detectors.resolve(name)
    kind, _, rest = name.partition(":")
    model, changes = _parted(rest)
    if not model:
        raise KnobError(f"detector: {name!r} names no model; expected {kind}:NAME")
    config: Foreign = resolve_name(KINDS[kind])(os.path.expanduser(model))
    return override(config, changes)


def _parted(text: str) -> tuple[str, dict[str, Any]]:
    """Part the name of a model from the knobs after it, which are read as `--set` reads them."""
    found = _KNOBS.search(text)
    if found is None:
        return text, {}
    pairs = (part.partition("=") for part in found[0].split("@")[1:])
    try:
        return text[: found.start()], {path: yaml.safe_load(value) for path, _, value in pairs}
    except yaml.YAMLError as error:
        raise KnobError(f"detector: {found[0]}: a value cannot be read") from error


def is_trusted(name: str, trusted: Collection[str]) -> bool:
    """Say whether looking a name up runs no code but ours and what the user asked for.

    Foreign models are data: no code of theirs is run.
    """
    return is_foreign(name) or detectors.is_trusted(name, trusted)


def saved_config(folder: Path, trusted: Collection[str] = ()) -> Any:
    """Return the config of the detector in a folder, as `detectors.saved_config` does."""
    return detectors.saved_config(folder, with_foreign(folder, trusted), resolve)


def with_foreign(folder: Path, trusted: Collection[str]) -> Collection[str]:
    """Trust the name of a saved detector, too, where it is foreign."""
    name = detectors.saved_name(folder)
    return {*trusted, name} if is_foreign(name) else trusted

"""What the labels of weights mean: their names and their number."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detectors import rows
from detectors.interface import DetectorConfig, WeightsError, build_without_memory
from detectors.unwrap import unwrap
from detectors.weights import CONFIG_FILE, read

COUNTER = ".num_batches_tracked"  # of a norm, which detectors add where it is missing


class ClassNames(NamedTuple):
    """What the labels of weights mean."""

    names: tuple[str, ...]  # by label; a label beyond them was never trained
    assumed: bool  # whether upstream is known to use these, and the file itself does not say so


def class_names(weights: str | Path, config: DetectorConfig) -> ClassNames | None:
    """Return what the labels of weights mean; None where nothing tells.

    Ours say it in the config beside them, mmengine's checkpoints in their `meta`, Hugging Face's in
    the config beside them. Upstream's releases say nothing: see `Detector.upstream_classes`.

    Args:
        weights: a path that `read` knows.
        config: of the detector that takes them.

    Raises:
        WeightsError: they cannot be read, or the names are no list of names.
    """
    described = _described(Path(weights))
    if "detector" in described:
        names = described.get("classes")
        return None if names is None else ClassNames(_checked(weights, names), assumed=False)
    content, model = read(weights), build_without_memory(config)
    found = unwrap(model, content)
    count = rows.count_labels(model, found.state)
    for names in (_of_meta(content), _of_hub(described)):
        if names is not None and len(names) == count and all(isinstance(n, str) for n in names):
            return ClassNames(tuple(names), assumed=False)
    renamed = (key for key in model.translate(found.raw) if not key.endswith(COUNTER))
    is_upstream = any(key not in found.raw for key in renamed)
    assumed = model.upstream_classes(count) if is_upstream else None
    return None if assumed is None else ClassNames(assumed, assumed=True)


def count_classes(weights: str | Path, config: DetectorConfig) -> int | None:
    """Return how many labels weights have; None where the shapes do not tell.

    Args:
        weights: a path that `read` knows.
        config: of the detector that takes them, whatever its own number is.

    Raises:
        WeightsError: they cannot be read.
    """
    described = _described(Path(weights))
    if "detector" in described:
        found = described.get("knobs", {}).get("num_classes")
        return found if isinstance(found, int) else None
    model = build_without_memory(config)
    return rows.count_labels(model, unwrap(model, read(weights)).state)


def _described(path: Path) -> dict[str, Any]:
    """Return the config beside weights, ours or Hugging Face's; nothing where there is none."""
    is_folder = os.path.isdir(path)
    file = (path if is_folder else path.parent) / CONFIG_FILE
    if not is_folder and path.suffix != ".safetensors":
        return {}
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return description if isinstance(description, dict) else {}


def _of_meta(content: Mapping[str, Any]) -> Sequence[Any] | None:
    """Return the names that mmengine and, before it, mmdet leave in a checkpoint."""
    meta = content.get("meta")
    if not isinstance(meta, Mapping):
        return None
    told = meta.get("dataset_meta")
    names = told.get("classes", told.get("CLASSES")) if isinstance(told, Mapping) else None
    names = meta.get("CLASSES") if names is None else names
    return names if isinstance(names, list | tuple) else None


def _of_hub(described: Mapping[str, Any]) -> Sequence[Any] | None:
    """Return the names in Hugging Face's config; its placeholders are none."""
    names = described.get("id2label")
    if not isinstance(names, Mapping):
        return None
    listed = [names.get(str(label)) for label in range(len(names))]
    told = None not in listed and listed != [f"LABEL_{label}" for label in range(len(names))]
    return listed if told else None


def _checked(weights: str | Path, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WeightsError(
            f"{weights}: 'classes' in {CONFIG_FILE} is no list of names; mend it or take it out"
        )
    return tuple(names)

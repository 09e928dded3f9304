"""The config of a detector of transformers: what a folder says of it, or its architecture alone."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from detectors.config import KnobError, out_of_result, override
from detectors.contract import InputConfig
from detectors.postprocess_config import TopKConfig
from harness.adapters.foreign import Foreign
from harness.adapters.transformers.best_config import BestClassConfig
from harness.adapters.transformers.families import FAMILIES, Family, Scores

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
INSTALL = "install it with pip install detbench[transformers]"
RESAMPLE = {2: "bilinear_antialias", 3: "cubic"}  # Pillow's numbers
COCO_LABELS = 91  # of most released weights
BLOCK = 1 << 20


@dataclass(frozen=True)
class TransformersConfig(Foreign):
    """A detector that transformers builds."""

    makes: ClassVar[str] = "harness.adapters.transformers.detector:TransformersDetector"
    kind: ClassVar[str] = "transformers"

    source: str = out_of_result("")
    """The folder, or the architecture."""
    architecture: str = "detr"
    """The library's `model_type`."""
    sha256: str = ""
    """Of config, image processor and weights in a folder; empty for an architecture alone."""
    num_classes: int = COCO_LABELS
    """Labels that it tells apart."""
    classes: tuple[str, ...] = ()
    """Names of the classes by label; none where nothing tells them."""
    scores: Scores = "sigmoid"
    """How logits become scores; of `softmax` the last class is that there is no object."""
    prepared_as: str = out_of_result("")
    """Who says how images are prepared: the folder, or the architecture's family."""
    input: InputConfig = InputConfig()
    """Input tensor."""
    postprocess: TopKConfig | BestClassConfig = TopKConfig()
    """What follows the network."""

    @property
    def brings_weights(self) -> bool:  # type: ignore[override]
        """Whether there are weights: those of a folder."""
        return bool(self.sha256)

    @property
    def family(self) -> Family:
        """The library's classes."""
        return FAMILIES[self.architecture]

    def lacks(self) -> str | None:
        """Say what has to be installed before the model can be run."""
        needed = ["transformers", *(["timm"] if self._needs_timm() else [])]
        for library in needed:
            if find_spec(library) is None:
                return f"needs {library}, which is not installed; {INSTALL}"
        if self.classes and len(self.classes) != self.num_classes:
            return f"tells {self.num_classes} classes apart, and detector.classes names others"
        return None

    def _needs_timm(self) -> bool:
        if not self.sha256:
            return self.family.timm
        told = _read(Path(self.source, CONFIG))
        backbone = told.get("backbone_config") or {}
        return bool(told.get("use_timm_backbone")) or backbone.get("model_type") == "timm_backbone"

    def notes(self) -> tuple[str, ...]:
        """Say what was taken for granted."""
        said = f"{self.name}: images are prepared as {self.prepared_as} wants them"
        return () if self.prepared_as == PROCESSOR else (said,)


def read(name: str) -> TransformersConfig:
    """Return the config of a folder, or of an architecture.

    Raises:
        KnobError: in one line, why there is none that can be run.
    """
    if name in FAMILIES:
        family = FAMILIES[name]
        return TransformersConfig(
            name, name, scores=family.scores, prepared_as=f"the family {name}",
            input=family.input, postprocess=_postprocess(family.scores, family.detections),
        )  # fmt: skip
    folder = Path(name)
    if not folder.is_dir():
        nearest = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        raise KnobError(
            f"transformers:{name}: no such folder, and no such architecture; {hint}There is"
            f" {', '.join(FAMILIES)}."
        )
    return _of_folder(folder, name)


def _of_folder(folder: Path, name: str) -> TransformersConfig:
    told, owner = _read(folder / CONFIG), f"transformers:{name}"
    architecture = told.get("model_type")
    if architecture not in FAMILIES:
        raise KnobError(
            f"{owner}: {CONFIG} says model_type {architecture!r}, which is no detector that is"
            f" known here; there is {', '.join(FAMILIES)}"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise KnobError(
            f"{owner}: no weights in .safetensors; save the model once more with save_pretrained"
        )
    family = FAMILIES[architecture]
    scores: Scores = "softmax" if told.get("use_focal_loss") is False else family.scores
    queries = told.get("num_queries", told.get("num_detection_tokens", family.detections))
    detections = int(queries) if family.of_queries else family.detections
    names = _names(told, owner)
    processor = folder / PROCESSOR
    known = [folder / CONFIG, *([processor] if processor.is_file() else []), *weights]
    config = TransformersConfig(
        os.path.abspath(name), architecture, _digest(known), len(names), scores=scores,
        classes=() if all(map(_is_placeholder, names)) else names,
        prepared_as=PROCESSOR if processor.is_file() else f"the family {architecture}",
        input=family.input, postprocess=_postprocess(scores, detections),
    )  # fmt: skip
    return override(config, _input(_read(processor), owner) if processor.is_file() else {})


def _postprocess(scores: Scores, detections: int) -> TopKConfig | BestClassConfig:
    kind = BestClassConfig if scores == "softmax" else TopKConfig
    return kind(max_detections=detections)


def _read(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        KnobError: there is none.
    """
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise KnobError(
            f"transformers:{file.parent}: no {file.name} there; name a folder that save_pretrained"
            " wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise KnobError(f"{file}: cannot be read as JSON; save the model once more") from error
    if not isinstance(found, dict):
        raise KnobError(f"{file}: no JSON object; save the model once more")
    return found


def _names(told: Mapping[str, Any], owner: str) -> tuple[str, ...]:
    """Return the names of classes by label, placeholders where there are no others."""
    listed = told.get("id2label")
    if not isinstance(listed, dict) or set(listed) != {str(k) for k in range(len(listed))}:
        raise KnobError(
            f"{owner}: id2label in {CONFIG} does not name the labels from 0 on; mend it"
        )
    return tuple(str(listed[str(label)]) for label in range(len(listed)))


def _is_placeholder(name: str) -> bool:
    return name.startswith("LABEL_") and name.removeprefix("LABEL_").isdigit()


def _input(told: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return the knobs of the input that an image processor's settings are.

    Raises:
        KnobError: it does something to images that is not done here.
    """
    size = told.get("size")
    size = size if isinstance(size, dict) else {}
    knobs: dict[str, Any] = {"input.channels": "rgb"}
    if {"shortest_edge", "longest_edge"} <= size.keys():
        knobs["input.size"] = [size["shortest_edge"], size["longest_edge"]]
        knobs |= {"input.resize": "shortest_edge", "input.pad_to": 1, "input.pad_value": "mean"}
    elif {"height", "width"} <= size.keys():
        knobs |= {"input.size": [size["height"], size["width"]], "input.resize": "stretch"}
    else:
        raise KnobError(f"{owner}: {PROCESSOR} says size {size}, which is not done here")
    resample = told.get("resample", 2)
    if resample not in RESAMPLE or told.get("do_resize") is False:
        raise KnobError(
            f"{owner}: {PROCESSOR} says resample {resample} and do_resize"
            f" {told.get('do_resize', True)}, which is not done here"
        )
    factor = told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0
    normal = told.get("do_normalize", True)
    mean, std = (told.get(f"image_{key}") if normal else None for key in ("mean", "std"))
    return {
        **knobs,
        "input.interpolation": RESAMPLE[resample],
        "input.mean": [value / factor for value in mean or (0.0, 0.0, 0.0)],
        "input.std": [value / factor for value in std or (1.0, 1.0, 1.0)],
    }


def _digest(files: list[Path]) -> str:
    """Hash files with their names."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                found.update(block)
    return found.hexdigest()

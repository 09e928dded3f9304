"""The config of an ONNX file: what it says, and what has to be said of it."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal

from detectors.config import inference_only, out_of_result, override, with_presets
from detectors.contract import InputConfig
from detectors.postprocess_config import NMSConfig, TopKConfig
from harness.adapters.foreign import Foreign
from harness.adapters.onnx import graph, layouts
from harness.adapters.onnx.graph import SUPPRESSION, Facts
from harness.adapters.onnx.layouts import LAYOUTS
from harness.adapters.onnx.presets import FROM_FILE, INPUTS, UNSAID
from harness.adapters.ready_config import ReadyConfig

Outputs = Literal[
    "unsaid", "logits_boxes", "query_logits_boxes", "logits_pred_boxes", "softmax_pred_boxes",
    "dets_labels", "labels_boxes_scores", "yolox", "yolov5", "yolov8", "rows", "num_dets",
]  # fmt: skip
_FOLLOWS = {
    name: {"postprocess.type": type(layout.postprocess).__name__}
    for name, layout in LAYOUTS.items()
}
_OURS = {"resize": str, "mean": list, "std": list, "channels": str, "pad_value": int}
"""What our own export says of the input in a file's metadata."""


@dataclass(frozen=True)
class InsideConfig:
    """What the suppression inside a graph is changed to."""

    score_threshold: float | None = inference_only(None)
    """Score above which a box enters suppression; null leaves what the file has."""
    iou_threshold: float | None = inference_only(None)
    """Overlap above which the weaker of two boxes goes; null leaves what the file has."""


@dataclass(frozen=True)
class OnnxConfig(Foreign):
    """A graph that somebody exported."""

    makes: ClassVar[str] = "harness.adapters.onnx.detector:OnnxDetector"
    kind: ClassVar[str] = "onnx"

    source: str = out_of_result("")
    """The file."""
    sha256: str = ""
    """Of the file, and of files beside it that hold its weights."""
    outputs: Outputs = with_presets("unsaid", _FOLLOWS)
    """What comes out: the layout of the outputs, as recognised or as told."""
    classes: tuple[str, ...] = ()
    """Names of the classes by label; none where nothing tells them."""
    labels: int = 0
    """How many classes it tells apart, where no names do; 0 where nothing tells that either."""
    prepared_as: str = out_of_result(UNSAID)
    """Who says how images are prepared: the file, a preset, or `own` for the knobs of `input`."""
    input: InputConfig = with_presets(InputConfig(size=(0, 0)), INPUTS)
    """Input tensor; a preset by name, or knobs. A size of 0 is one that the file leaves open."""
    inside: InsideConfig = InsideConfig()
    """Suppression inside the graph."""
    postprocess: NMSConfig | TopKConfig | ReadyConfig = NMSConfig()
    """What follows the graph."""

    @property
    def num_classes(self) -> int:
        """Number of object classes; 0 where nothing tells it yet."""
        return len(self.classes) or self.labels or self._told_labels()

    @cached_property
    def facts(self) -> Facts:
        """What the file says."""
        return graph.read(self.source)

    def lacks(self) -> str | None:
        """Say what has to be turned before the model can be run; None where nothing is lacking."""
        facts = self.facts
        if facts.images is None:
            return f"takes no images [B, 3, H, W] in floating point; it has {facts.seen()}"
        wanted = {facts.images, facts.sizes} - {None}
        if len(facts.inputs) > len(wanted):
            return f"takes more than images and their size; it has {facts.seen()}"
        return (
            self._lacks_outputs()
            or self._lacks_input()
            or self._lacks_classes()
            or self._lacks_inside()
        )

    def _lacks_outputs(self) -> str | None:
        if self.outputs != "unsaid":
            layouts.parts(self.outputs, self.facts)
            return None
        found = layouts.fitting(self.facts) or list(LAYOUTS)
        listed = "; ".join(f"{name}: {LAYOUTS[name].text}" for name in found)
        return (
            f"its outputs may be several things, it has {self.facts.seen()}; say which with"
            f" --set detector.outputs=NAME, one of {listed}"
        )

    def _lacks_input(self) -> str | None:
        fixed, size = self.facts.size, self.input.size
        if self.prepared_as == UNSAID:
            families = LAYOUTS[self.outputs].families
            others = [name for name in INPUTS if name not in families]
            return (
                "the file does not say how images are prepared, and a wrong guess halves mAP; say"
                " it with --set detector.input=NAME:"
                f" {', '.join(families)} lay outputs out like this; there is also"
                f" {', '.join(others)}"
            )
        if 0 in size:
            return "takes images of any size; say which with --set detector.input.size=[H, W]"
        if fixed is not None and fixed != size:
            return f"takes images of {list(fixed)} (h, w) alone, and detector.input.size is {size}"
        return None

    def _lacks_classes(self) -> str | None:
        known = self._told_labels()
        if self.classes and known and len(self.classes) != known:
            return f"tells {known} classes apart, and detector.classes names {len(self.classes)}"
        if self.num_classes == 0:
            return (
                "does not say how many classes it tells apart; name them by label with --set"
                " detector.classes=[person], or say how many with --set detector.labels=80"
            )
        return None

    def _told_labels(self) -> int:
        """Return how many classes the outputs tell apart; 0 where nothing tells."""
        if self.outputs == "unsaid":
            return self.labels
        return layouts.labels(self.outputs, self.facts) or self.labels

    def _lacks_inside(self) -> str | None:
        if self.inside == InsideConfig() or SUPPRESSION in self.facts.operators:
            return None
        return f"has no {SUPPRESSION} in it, so that detector.inside changes nothing"

    def notes(self) -> tuple[str, ...]:
        """Say what was taken for granted, and what must be known to read the results."""
        facts, found = self.facts, [f"{self.name}: outputs are {LAYOUTS[self.outputs].text}"]
        if self.prepared_as not in (FROM_FILE, UNSAID):
            found.append(f"{self.name}: images are prepared as {self.prepared_as} wants them")
        if facts.precision != "float32":
            found.append(f"{self.name}: its numbers are {facts.precision}")
        return tuple(found)


def read(file: str) -> OnnxConfig:
    """Return the config of a file, with all that it says and nothing that is guessed.

    Raises:
        KnobError: in one line, why it is none that can be run.
    """
    facts = graph.read(file)
    config = OnnxConfig(file, facts.sha256, input=InputConfig(size=facts.size or (0, 0)))
    found = layouts.fitting(facts)
    changes: dict[str, Any] = {"classes": _classes(facts)}
    if len(found) == 1:
        changes |= {"outputs": found[0], "labels": layouts.labels(found[0], facts)}
        families = LAYOUTS[found[0]].families
        changes |= {"input": families[0]} if len(families) == 1 else {}
    changes |= _told_input(facts)
    return override(config, changes)


def _classes(facts: Facts) -> list[str]:
    """Return the names of classes in a file's metadata: a list, or a mapping by label."""
    for key in ("classes", "names"):
        with suppress(ValueError, SyntaxError):
            found = ast.literal_eval(facts.metadata.get(key, ""))
            if isinstance(found, dict):
                found = [found.get(label) for label in range(len(found))]
            if isinstance(found, list) and all(isinstance(name, str) for name in found):
                return found
    return []


def _told_postprocess(told: Mapping[str, str]) -> dict[str, Any]:
    """Return the knobs of postprocessing that the file of an export of ours names."""
    knobs = json.loads(told.get("knobs", "{}"))
    known = {item.name for kind in (NMSConfig, TopKConfig) for item in fields(kind)}
    own = {path: value for path, value in knobs.items() if path.startswith("postprocess.")}
    kind = NMSConfig if "postprocess.iou_threshold" in own else TopKConfig
    if not {path.removeprefix("postprocess.") for path in own} <= known or not own:
        return {}
    return {"postprocess.type": kind.__name__, **own}


def _told_input(facts: Facts) -> dict[str, Any]:
    """Return the knobs of the input that a file's metadata gives: ours', or ultralytics'."""
    told = facts.metadata
    if _OURS.keys() <= told.keys():
        plain = {"resize", "channels"}
        knobs = {key: told[key] if key in plain else json.loads(told[key]) for key in _OURS}
        told_knobs = {f"input.{key}": value for key, value in knobs.items()}
        return {**told_knobs, **_told_postprocess(told), "prepared_as": FROM_FILE}
    if {"names", "stride", "imgsz", "task"} <= told.keys():
        return {**INPUTS["yolov8"], "prepared_as": FROM_FILE}
    return {}

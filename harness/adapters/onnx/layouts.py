"""What the outputs of a graph are, and how that is told: by their names, then by their shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from detectors.config import KnobError
from detectors.postprocess_config import NMSConfig, TopKConfig
from harness.adapters.onnx.graph import Facts, Port
from harness.adapters.ready_config import ReadyConfig

STRIDES = (8, 16, 32)  # of the levels of a dense head
MOST_ROWS = 1000  # detections of an image; predictions of a dense head are more


class Layout(NamedTuple):
    """One way to lay predictions out."""

    text: str  # what the outputs are
    families: tuple[str, ...]  # whose inputs are known, that lay them out like this
    postprocess: Any  # the config of what follows


NMS, TOP_K, READY = NMSConfig(), TopKConfig(), ReadyConfig()
LAYOUTS = {
    "logits_boxes": Layout("logits [B, N, C], boxes [B, N, 4] of ours, with points", (), NMS),
    "query_logits_boxes": Layout("logits [B, N, C], boxes [B, N, 4] of ours", (), TOP_K),
    "logits_pred_boxes": Layout(
        "logits [B, Q, C], boxes [B, Q, 4] centre and size, 0 to 1; sigmoid",
        ("rtdetr", "dfine", "deim", "rfdetr"),
        TOP_K,
    ),
    "softmax_pred_boxes": Layout(
        "logits [B, Q, C + 1], the last for no object, boxes [B, Q, 4] likewise; softmax",
        ("rfdetr",),
        TOP_K,
    ),
    "dets_labels": Layout(
        "dets [B, K, 5] corners and score, labels [B, K]", ("rtmdet", "yolox"), READY
    ),
    "labels_boxes_scores": Layout(
        "labels [B, K], boxes [B, K, 4] corners, scores [B, K]", ("rtdetr",), READY
    ),
    "yolox": Layout(
        "[B, N, 5 + C] in strides: centre, log of the size, objectness, classes",
        ("yolox", "yolox_legacy"),
        NMS,
    ),
    "yolov5": Layout(
        "[B, N, 5 + C] in pixels: centre, size, objectness, classes",
        ("yolov5", "yolov7", "yolox"),
        NMS,
    ),
    "yolov8": Layout("[B, 4 + C, N] in pixels: centre, size, classes", ("yolov8",), NMS),
    "rows": Layout("[B, K, 6] corners, score, label", ("yolov8",), READY),
    "num_dets": Layout(
        "num_dets [B, 1], boxes [B, K, 4] corners, scores [B, K], labels [B, K]",
        ("rtmdet", "yolov5", "yolov7", "yolov8", "yolox"),
        READY,
    ),
}


def fitting(facts: Facts) -> list[str]:
    """Return the layouts that a graph's outputs may be of; none where they are like no known one.

    Names are looked at first: where they tell, shapes need not.
    """
    names = {port.name for port in facts.outputs}
    if {"logits", "boxes"} <= names and "points" in names:
        return ["logits_boxes"]
    if {"logits", "boxes"} <= names and "sigmoid" in facts.metadata.get("outputs", ""):
        return ["query_logits_boxes"]
    if any(name.startswith("num_det") for name in names):
        return _kept(["num_dets"], facts)
    if {"labels", "boxes", "scores"} <= names or (len(names) == 3 and facts.sizes):
        return _kept(["labels_boxes_scores"], facts)
    if {"logits", "pred_boxes"} <= names:
        return ["logits_pred_boxes", "softmax_pred_boxes"]
    return _kept(["dets_labels"], facts) or _by_shape(facts)


def _by_shape(facts: Facts) -> list[str]:
    if len(facts.outputs) == 2:
        return _kept(["logits_pred_boxes", "softmax_pred_boxes"], facts)
    port = facts.outputs[0]
    if len(facts.outputs) != 1 or len(port.shape) != 3 or not port.type.startswith("float"):
        return []
    (_, rows, columns), cells = port.shape, _cells(facts.size)
    if columns == 6 and rows != cells and (rows is None or rows <= MOST_ROWS):
        return ["rows"]
    if rows is not None and (columns is None or rows < columns) and rows > 4:
        return ["yolov8"]
    if columns is None or columns < 6:
        return []
    if rows is not None and rows == 3 * (cells or 0):
        return ["yolov5"]
    if rows is not None and rows == cells:
        return ["yolov5" if "Exp" in facts.operators else "yolox"]
    return ["yolox", "yolov5"]


def _cells(size: tuple[int, int] | None) -> int | None:
    """Return the places of a dense head's levels."""
    return size and sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)


def _kept(names: list[str], facts: Facts) -> list[str]:
    """Return the layouts among some that the outputs' shapes allow."""
    return [name for name in names if _parts(name, facts) is not None]


def parts(name: str, facts: Facts) -> dict[str, Port]:
    """Return which output is what in a layout.

    Raises:
        KnobError: the outputs do not fit it.
    """
    found = _parts(name, facts)
    if found is None:
        raise KnobError(f"outputs {name} are {LAYOUTS[name].text}; the file has {facts.seen()}")
    return found


def _parts(name: str, facts: Facts) -> dict[str, Port] | None:
    """Return which output is what in a layout; None where the outputs do not fit it."""
    outputs = facts.outputs
    if name in ("logits_boxes", "query_logits_boxes"):
        return _named(outputs, ("logits", "boxes"))
    if name in ("yolox", "yolov5", "yolov8", "rows"):
        fits = len(outputs) == 1 and len(outputs[0].shape) == 3
        return {"rows": outputs[0]} if fits else None
    boxes = _only(p for p in outputs if len(p.shape) == 3 and p.shape[2] in (4, None))
    if name in ("logits_pred_boxes", "softmax_pred_boxes"):
        named = _named(outputs, ("logits", "pred_boxes"))
        if named is not None:
            return {"logits": named["logits"], "boxes": named["pred_boxes"]}
        boxes = _only(p for p in outputs if len(p.shape) == 3 and p.shape[2] == 4)
        logits = _only(p for p in outputs if len(p.shape) == 3 and p is not boxes)
        return {"logits": logits, "boxes": boxes} if boxes and logits else None
    whole = [port for port in outputs if not port.type.startswith("float")]
    if name == "dets_labels":
        dets = _only(p for p in outputs if len(p.shape) == 3 and p.shape[2] in (5, None))
        labels = _only(port for port in whole if len(port.shape) == 2)
        is_pair = dets is not None and labels is not None and len(outputs) == 2
        return {"dets": dets, "labels": labels} if is_pair and dets and labels else None
    flat = [port for port in outputs if len(port.shape) == 2]
    counts = _only(p for p in flat if p.name.startswith("num_det")) if name == "num_dets" else None
    scores = _only(p for p in flat if p.type.startswith("float") and p is not counts)
    others = [port for port in flat if port is not counts and port is not scores]
    if boxes is None or scores is None or len(others) != 1 or (name == "num_dets" and not counts):
        return None
    found = {"boxes": boxes, "scores": scores, "labels": others[0]}
    return {**found, "counts": counts} if counts else found


def _named(outputs: Iterable[Port], names: tuple[str, ...]) -> dict[str, Port] | None:
    found = {port.name: port for port in outputs if port.name in names}
    return found if len(found) == len(names) else None


def _only(ports: Iterable[Port]) -> Port | None:
    """Return the only one of some outputs; None where there are none or several."""
    found = list(ports)
    return found[0] if len(found) == 1 else None


def labels(name: str, facts: Facts) -> int:
    """Return how many classes the outputs tell apart; 0 where they do not tell."""
    found = parts(name, facts)
    if "logits" in found:
        count = found["logits"].shape[-1] or 0
        return max(0, count - (name == "softmax_pred_boxes"))
    if name in ("yolox", "yolov5"):
        return max(0, (found["rows"].shape[2] or 0) - 5)
    if name == "yolov8":
        return max(0, (found["rows"].shape[1] or 0) - 4)
    return facts.labels

"""What the `--help` of each subcommand ends with: a command that works, or two."""

from __future__ import annotations

_LINES = {
    "run": (
        "detbench run quickstart",
        "detbench run rtmdet/expand_ratio --data DATA --set recipe=short",
    ),
    "status": ("detbench status quickstart", "detbench status runs/quickstart --json"),
    "check": ("detbench check rtmdet/expand_ratio --data DATA",),
    "measure": (
        "detbench measure rtmdet_tiny rtmdet_s --size 320 320",
        "detbench measure runs/mine --nms-frontier --data DATA",
    ),
    "train": ("detbench train rtmdet_tiny --data DATA --recipe short --out runs/mine",),
    "evaluate": (
        "detbench evaluate runs/mine --data DATA --split test",
        "detbench evaluate --detections FILE --data DATA --out runs/theirs",
    ),
    "predict": ("detbench predict runs/mine photos/ 'more/**/*.jpg' --out boxes",),
    "export": ("detbench export runs/mine --format onnx --out mine.onnx",),
    "compare": ("detbench compare runs/quickstart/A runs/quickstart/B",),
    "reproduce": ("detbench reproduce rtmdet/table5b_blocks --out tables",),
    "report": ("detbench report quickstart --out pages --tables",),
    "sync": ("detbench sync all --tracking-uri http://HOST:5000",),
    "clean": ("detbench clean --older-than 7 --yes",),
    "doctor": ("detbench doctor --json", "detbench doctor model onnx:mine.onnx --data DATA"),
    "list detectors": ("detbench list detectors",),
    "list studies": ("detbench list studies",),
    "list recipes": ("detbench list recipes",),
    "list tables": ("detbench list tables rtdetr",),
    "list knobs": ("detbench list knobs rtmdet_s", "detbench list knobs rtmdet_s assigner"),
    "data check": ("detbench data check DATA",),
    "data show": ("detbench data show DATA --split val",),
    "data get": ("detbench data get coco2017 --split val --to /disk/coco",),
    "weights list": ("detbench weights list",),
    "weights get": ("detbench weights get rtmdet_s rtdetr_r18",),
    "weights convert": (
        "detbench weights convert nano.onnx --detector rtmdet_nano --out runs/person",
    ),
}
EXAMPLES = {name: f"Example: {'; or: '.join(lines)}" for name, lines in _LINES.items()}
"""By subcommand."""

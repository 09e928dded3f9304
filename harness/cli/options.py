"""The options that several subcommands of `detbench` share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import completion

StudyName = Annotated[
    str,
    typer.Argument(
        help="A file, or a name such as rtmdet/expand_ratio.", autocompletion=completion.studies
    ),
]
ModelName = Annotated[
    str,
    typer.Argument(
        help="A detector's name, onnx:FILE, or a folder with weights.",
        autocompletion=completion.detectors,
    ),
]
OptionalModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A detector's name, or a folder with weights.",
        autocompletion=completion.detectors,
    ),
]
TableName = Annotated[
    str,
    typer.Argument(
        metavar="TABLE",
        help="A table such as rtmdet/table5b_blocks, a paper such as rtmdet, or all.",
        autocompletion=completion.tables,
    ),
]
StudyNames = Annotated[
    list[str],
    typer.Argument(metavar="STUDY...", help="Files or names.", autocompletion=completion.studies),
]
DetectorName = Annotated[
    str,
    typer.Argument(
        help="A name from `detbench list detectors`.", autocompletion=completion.detectors
    ),
]
ModelNames = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Names of detectors, or onnx:FILE.",
        autocompletion=completion.detectors,
    ),
]
Data = Annotated[
    str | None, typer.Option(help="shapes, coco2017 or a folder in COCO layout.", metavar="D")
]
Split = Annotated[
    str, typer.Option(help="Of the data set: val, test, ...; no other need exist.", metavar="S")
]
OnlySplit = Annotated[
    str | None,
    typer.Option("--split", help="Look at this split alone: train, val, test, ...", metavar="S"),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Turn a knob; may be repeated.",
        autocompletion=completion.knobs,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu or cuda:0; a GPU when there is one.", show_default=False)
]
Out = Annotated[Path, typer.Option(help="Folder of the records.")]
Storage = Annotated[
    str | None,
    typer.Option(help="The study's state, as SQLAlchemy's URL; else a file by the records."),
]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow; else $MLFLOW_TRACKING_URI or sqlite:///mlflow.db.")
]
Models = Annotated[
    bool,
    typer.Option(envvar="DETBENCH_MODELS", help="Log trained weights as models of MLflow, too."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
KeepStale = Annotated[
    bool, typer.Option("--keep-stale", help="Use finished trials of other code, and say so.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Run again what other versions of libraries computed.")
]
Size = Annotated[
    tuple[int, int] | None, typer.Option(help="Height and width of the input.", metavar="H W")
]
Weights = Annotated[str | None, typer.Option(help="A file, a folder of ours, coco or objects365.")]
StartWeights = Annotated[
    str | None,
    typer.Option(
        metavar="W",
        help="What training starts from: a file, a folder of ours, coco, objects365 or imagenet.",
    ),
]
Measured = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for figures and raw samples; page of --nms-frontier, with the recommended"
        " setting's detections beside it; a Markdown table of --count-only.",
        show_default=False,
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DATA=MODEL,...",
        help="Which class of the data set is which of the weights', by its name or label; or"
        " in-order, where both have the same ones in one order. Else they are matched by name.",
    ),
]
SharedClasses = Annotated[
    bool, typer.Option("--shared-classes", help="mAP over the classes that the weights know.")
]

Trust = Annotated[
    bool,
    typer.Option("--trust", help="Run a folder's detector that is not built in: somebody's code."),
]


class Format(str, Enum):
    """What a detector can be exported to."""

    ONNX = "onnx"


class Splits(str, Enum):
    """What of a data set is downloaded."""

    VAL = "val"
    TRAIN = "train"
    ALL = "all"


class Where(str, Enum):
    """Who carries trials out."""

    LOCAL = "local"
    RAY = "ray"


class Scale(str, Enum):
    """Which studies repeat a published table."""

    FULL = "full"
    REHEARSAL = "rehearsal"


class Remeasured(str, Enum):
    """What of finished trials can be measured once more without training anything."""

    LATENCY = "latency"


Remeasure = Annotated[
    Remeasured | None,
    typer.Option(help="Run nothing; time the finished trials once more, together."),
]


def show_version(wanted: bool) -> None:
    """Print the version and end, where that is wanted."""
    if wanted:
        print(f"detbench {version('detbench')}")
        raise typer.Exit


def at_most_one(options: Mapping[str, bool]) -> None:
    """Refuse two options, each by its name, that were both given."""
    given = [name for name, used in options.items() if used]
    if len(given) > 1:
        raise typer.BadParameter(f"{given[0]} does not go with {given[1]}")


def required(name: str, value: str | None) -> str:
    """Return what was given; refuse if it was not."""
    if value is None:
        raise typer.BadParameter(f"missing {name}")
    return value


def with_weights(sets: Sequence[str] | None, weights: str | None) -> list[str]:
    """Add the weights that a study starts from to its other changes."""
    return [*(sets or ()), *([f"weights={json.dumps(weights)}"] if weights is not None else [])]


def sized(sets: Sequence[str] | None, size: tuple[int, int] | None) -> list[str]:
    """Add the knob of the input's size to the others."""
    return [*(sets or ()), *([f"detector.input.size=[{size[0]}, {size[1]}]"] if size else [])]

"""The subcommands of `detbench` for one detector: train, evaluate, predict and export it.

Each imports what carries it out when it is called, so that `--help` loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import completion
from harness.cli.examples import EXAMPLES
from harness.cli.options import (
    Classes,
    Data,
    Device,
    Format,
    Json,
    ModelName,
    OptionalModelName,
    Sets,
    SharedClasses,
    Size,
    Split,
    Trust,
    Weights,
    at_most_one,
    required,
    sized,
)

single_app = typer.Typer()


@single_app.command(epilog=EXAMPLES["train"])
def train(
    detector: Annotated[
        str | None,
        typer.Argument(
            help="A name from `detbench list detectors`.", autocompletion=completion.detectors
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="shapes, coco2017 or a folder.", metavar="D")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A name from `detbench list recipes`.", autocompletion=completion.recipes
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for weights, record and detections.")
    ] = None,
    set_: Sets = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of every random draw; else 0.", show_default=False)
    ] = None,
    weights: Weights = None,
    classes: Classes = None,
    resume: Annotated[
        Path | None, typer.Option(help="Finished training to go on with, as its folder.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --resume: in all.")] = None,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Train one detector and evaluate it, or go on with a finished one: --resume F --epochs N.

    DETECTOR, --data, --recipe and --out are needed but for --resume, which knows the first three.
    """
    known = {"DETECTOR": detector, "--data": data, "--recipe": recipe}
    if resume is None and epochs is not None and detector is not None:
        raise typer.BadParameter(
            f"--epochs goes with --resume; here it is --set recipe.epochs={epochs}"
        )
    if resume is not None or epochs is not None:
        given = {"--set": set_, "--seed": seed, "--weights": weights, "--classes": classes}
        _refuse_with_resume(known | given)
        if resume is None or epochs is None:
            raise typer.BadParameter("--resume FOLDER and --epochs N go together")
        from harness.cli import train as command
        from harness.engine import devices

        return command.go_on(resume, epochs, out, devices.device(device), as_json=as_json)
    if detector is None or data is None or recipe is None or out is None:
        missing = [name for name, value in {**known, "--out": out}.items() if value is None]
        raise typer.BadParameter(f"train needs {', '.join(missing)}, or --resume and --epochs")
    from harness import study
    from harness.cli import named
    from harness.engine import devices

    devices.check(device)
    plan = study.single(detector, recipe, data, set_ or [], seed or 0, weights)
    named.check_start(plan)
    from harness.cli import train as command

    where = devices.device(device)
    return command.train(plan, out, where, classes=classes or [], as_json=as_json)


def _refuse_with_resume(options: Mapping[str, Any]) -> None:
    given = [name for name, value in options.items() if value not in (None, [])]
    if given:
        raise typer.BadParameter(f"--resume knows what was trained; leave out {', '.join(given)}")


@single_app.command(epilog=EXAMPLES["predict"])
def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder with weights, or a detector's name and --weights.",
            autocompletion=completion.detectors,
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder for pictures and detections.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE...", help="Files, folders and patterns; else --data."),
    ] = None,
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="Of --data; else val. No other need exist.", metavar="S")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Another model, drawn beside the first.", metavar="OTHER")
    ] = None,
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Boxes below are kept, and not drawn.")
    ] = 0.3,
    pictures: Annotated[bool, typer.Option("--images/--no-images", help="Draw boxes.")] = True,
    weights: Weights = None,
    against_weights: Annotated[
        str | None, typer.Option(help="Likewise, of the other model.", metavar="TEXT")
    ] = None,
    set_: Sets = None,
    classes: Classes = None,
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Draw the boxes that a detector finds on photographs, and write them as COCO results."""
    if bool(images) == (data is not None):
        raise typer.BadParameter(
            "predict takes photographs: name IMAGE..., files, folders or patterns, or else a data"
            " set with --data"
        )
    for option, given, needed, there in (
        ("--split", split is not None, "--data", data is not None),
        ("--classes", bool(classes), "--data", data is not None),
        ("--against-weights", against_weights is not None, "--against", against is not None),
    ):
        if given and not there:
            raise typer.BadParameter(f"{option} goes with {needed}")
    from harness.cli import named
    from harness.cli.folders import refuse_taken
    from harness.config import photographs
    from harness.engine import devices

    devices.check(device)
    refuse_taken(out, "predict")
    photographs.find(images or [])
    named.check_models([model], set_, weights=weights, data=data, split=split or "val", trust=trust)
    if against is not None:
        named.check_models([against], set_, weights=against_weights, trust=trust)
    from harness.cli import predict as command

    models = [command.Named(model, weights)]
    if against is not None:
        models.append(command.Named(against, against_weights))
    options = command.Options(
        out, set_ or [], devices.device(device), score, classes or [], pictures=pictures,
        trust=trust,
    )  # fmt: skip
    return command.predict(models, images or [], data, split or "val", options, as_json=as_json)


@single_app.command(epilog=EXAMPLES["evaluate"])
def evaluate(
    model: OptionalModelName = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="shapes, coco2017, a folder, or for --detections an annotation file.", metavar="D"
        ),
    ] = None,
    split: Split = "val",
    detections: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Score a file of COCO results in place of a model; no pictures."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Of --detections: a folder for the record, which report and compare read.",
            show_default=False,
        ),
    ] = None,
    weights: Weights = None,
    set_: Sets = None,
    classes: Classes = None,
    shared_classes: SharedClasses = False,
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Evaluate one detector, or a file of results, on a split of a data set, such as val."""
    from harness.cli import named
    from harness.engine import devices

    data = required("--data", data)
    if detections is not None:
        others = {"--weights": weights, "--set": set_, "--classes": classes}
        flags = {"--shared-classes": shared_classes, "--trust": trust}
        of_model = {"MODEL": model, **others, "--device": device, **flags}
        at_most_one({"--detections": True, **{key: True for key, v in of_model.items() if v}})
        named.check_results([detections], data, split, out)
        from harness.cli import results

        return results.evaluate(detections, data, split, out=out, as_json=as_json)
    if out is not None:
        raise typer.BadParameter("--out goes with --detections")
    model = required("MODEL, or --detections", model)
    devices.check(device)
    named.check_models([model], set_, weights=weights, data=data, split=split, trust=trust)
    from harness.cli import evaluate as command

    return command.evaluate(
        model,
        data,
        weights,
        set_ or [],
        devices.device(device),
        classes=classes or [],
        shared=shared_classes,
        split=split,
        trust=trust,
        as_json=as_json,
    )


@single_app.command(epilog=EXAMPLES["export"])
def export(
    model: ModelName,
    format_: Annotated[Format, typer.Option("--format", help="Of the file.")] = Format.ONNX,
    weights: Weights = None,
    set_: Sets = None,
    size: Size = None,
    opset: Annotated[
        int | None, typer.Option(min=1, help="Of ONNX's operators; else the exporter's choice.")
    ] = None,
    any_batch: Annotated[
        bool, typer.Option("--any-batch", help="Take batches of any size, not one image alone.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The file; else MODEL.onnx, here.", show_default=False)
    ] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Write one deployed detector to a file, once it was seen to predict the same."""
    from harness.cli import folders, named

    del format_  # there is one
    sets = sized(set_, size)
    named.check_models([model], sets, weights=weights, trust=trust)
    if out is not None:
        folders.check_file(out)
    from harness.cli import export as command

    return command.export(
        model, weights, sets, out, opset, any_batch=any_batch, trust=trust, as_json=as_json
    )

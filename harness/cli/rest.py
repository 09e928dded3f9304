"""The subcommands of `detbench` beside those in `app`, on trained models, records and folders.

Each imports what carries it out when it is called, so that `--help` loads no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import completion
from harness.cli.options import (
    Classes,
    Data,
    Device,
    Json,
    KeepStale,
    Models,
    Out,
    Scale,
    Sets,
    TableName,
    TrackingUri,
    Trust,
    Weights,
)

EXAMPLE = "Example: detbench reproduce rtmdet/table5b_blocks --out tables"

rest_app = typer.Typer()


@rest_app.command()
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


@rest_app.command()
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


@rest_app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A trial's folder, or seeds: X,Y,Z.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise; judged against A.")],
    data: Data = None,
    alone: Annotated[bool, typer.Option("--alone", help="Leave other seeds out.")] = False,
    mixed: Annotated[bool, typer.Option("--mixed", help="Allow unlike protocols or data.")] = False,
    as_json: Json = False,
) -> int:
    """Say whether B is better than A: over images, seeds, and in time."""
    from harness.records import finished

    for folder in (*a.split(","), *b.split(",")):
        finished.read(Path(os.path.expanduser(folder)))
    from harness.cli import compare as command

    return command.compare(a, b, data_name=data, alone=alone, mixed=mixed, as_json=as_json)


@rest_app.command(epilog=EXAMPLE)
def reproduce(
    table: TableName,
    data: Data = None,
    set_: Sets = None,
    scale: Annotated[
        Scale, typer.Option(help="The tables' own studies, or the small ones that rehearse them.")
    ] = Scale.FULL,
    run: Annotated[bool, typer.Option("--run", help="Run what is missing first.")] = False,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the records; else runs.", show_default=False)
    ] = None,
    device: Device = None,
    tracking: Annotated[bool, typer.Option(help="With --run: log to MLflow.")] = True,
    keep_stale: KeepStale = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for Markdown, LaTeX, CSV and JSON; or an .md file: how far all are.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Set a published table beside what is counted and measured here, with a verdict a cell."""
    from harness.cli import named
    from harness.engine import devices, server

    devices.check(device)
    small = scale is Scale.REHEARSAL
    named.check_published(table, data, set_ or [], runs, will_run=run and not small)
    if run:
        server.warm_up()
    from harness.cli import reproduce as command
    from harness.cli.run import Options
    from harness.study.study import Given
    from harness.tracking import uri

    folder = runs or Path("runs")
    how = Options(
        devices=devices.slots(device, None),
        out=folder,
        storage=None,
        only=(),
        tracker=uri(None) if tracking else None,
        report=True,
        keep_stale=keep_stale,
    )
    options = command.Options(
        Given(data, tuple(set_ or ())),
        small,
        how if run else None,
        folder,
        keep_stale,
        out,
    )
    return command.reproduce(table, options, as_json=as_json)


@rest_app.command()
def report(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="Studies, or folders of records.",
            autocompletion=completion.studies,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pages.")],
    runs: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs"),
    mixed: Annotated[bool, typer.Option("--mixed", help="Allow unlike protocols.")] = False,
    earlier: Annotated[
        bool,
        typer.Option("--earlier", help="Show trials of earlier versions of a study's file, apart."),
    ] = False,
    keep_stale: KeepStale = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Write tables for papers: LaTeX, Markdown, CSV.")
    ] = False,
    figures: Annotated[
        bool,
        typer.Option("--figures", help="Write figures for papers: SVG, PDF, PNG; with kaleido."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Write a page a study from its records, and tables and figures for papers."""
    from harness.cli import named

    for study in studies:
        named.check_not_empty(named.check_records(study, runs))
    if figures:
        from reports import browsers

        browsers.check()
    from harness.cli import report as command

    return command.report(
        studies,
        out,
        runs,
        mixed=mixed,
        earlier=earlier,
        keep_stale=keep_stale,
        extras=command.Extras(tables, figures),
        as_json=as_json,
    )


@rest_app.command()
def sync(
    study: Annotated[
        str,
        typer.Argument(
            help="A study, a folder of records, or `all`.", autocompletion=completion.studies
        ),
    ],
    tracking_uri: TrackingUri = None,
    models: Models = True,
    out: Out = Path("runs"),
    as_json: Json = False,
) -> int:
    """Send to MLflow whatever it lacks, such as after an outage."""
    from harness.cli import sync as command
    from harness.tracking import uri

    return command.sync(study, out, uri(tracking_uri), models=models, as_json=as_json)


@rest_app.command()
def clean(
    out: Out = Path("runs"),
    older_than: Annotated[
        float, typer.Option(min=0, help="Days since it was last changed.", metavar="DAYS")
    ] = 0.0,
    larger_than: Annotated[
        float, typer.Option(min=0, help="Megabytes that it takes.", metavar="MB")
    ] = 0.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; else it is only listed.")] = False,
    as_json: Json = False,
) -> int:
    """List what interrupted runs left behind and no study needs; --yes removes it."""
    from harness.cli import clean as command

    return command.clean(out, older_than, larger_than, yes=yes, as_json=as_json)


@rest_app.command()
def doctor(as_json: Json = False) -> int:
    """Say what this machine can and cannot support, and which claims follow."""
    from harness.cli import doctor as command

    return command.doctor(as_json=as_json)

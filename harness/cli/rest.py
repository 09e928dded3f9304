"""The subcommands of `detbench` on records and folders.

Each imports what carries it out when it is called, so that `--help` loads no torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli import completion
from harness.cli.examples import EXAMPLES
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
    Split,
    TableName,
    TrackingUri,
    Trust,
    Weights,
)

rest_app = typer.Typer()


@rest_app.command(epilog=EXAMPLES["compare"])
def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A trial's folder, seeds: X,Y,Z, or results.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise; judged against A.")],
    data: Data = None,
    alone: Annotated[bool, typer.Option("--alone", help="Leave other seeds out.")] = False,
    mixed: Annotated[bool, typer.Option("--mixed", help="Allow unlike protocols or data.")] = False,
    as_json: Json = False,
) -> int:
    """Say whether B is better than A: over images, seeds, and in time."""
    from harness.cli import named
    from harness.config.places import ALONE
    from harness.records import finished

    sides = [*a.split(","), *b.split(",")]
    if files := [side for side in sides if side.endswith(ALONE)]:
        named.check_results(files, data)
    for folder in sides:
        if folder not in files:
            finished.read(Path(os.path.expanduser(folder)))
    from harness.cli import compare as command

    return command.compare(a, b, data_name=data, alone=alone, mixed=mixed, as_json=as_json)


@rest_app.command(epilog=EXAMPLES["reproduce"])
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
    from harness.cli import folders, named
    from harness.engine import devices, server

    devices.check(device)
    small = scale is Scale.REHEARSAL
    named.check_published(table, data, set_ or [], runs, will_run=run and not small)
    if out is not None:
        folders.check_tables(out)
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


@rest_app.command(epilog=EXAMPLES["report"])
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
    plotly: Annotated[
        Path | None,
        typer.Option(
            help="A plotly.min.js that the pages share, written unless it is there.", metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Write a page a study from its records, and tables and figures for papers."""
    from harness.cli import folders, named

    for study in studies:
        named.check_not_empty(named.check_records(study, runs))
    folders.check_folder(out)
    if plotly is not None:
        folders.check_plotly(plotly)
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
        plotly=plotly,
        as_json=as_json,
    )


@rest_app.command(epilog=EXAMPLES["sync"])
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


@rest_app.command(epilog=EXAMPLES["clean"])
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


@rest_app.command(epilog=EXAMPLES["doctor"])
def doctor(
    what: Annotated[
        Literal["model"] | None, typer.Argument(help="Look at a model, not at the machine.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Argument(help="Its name.", autocompletion=completion.detectors),
    ] = None,
    data: Data = None,
    split: Split = "val",
    weights: Weights = None,
    set_: Sets = None,
    classes: Classes = None,
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Say what this machine supports, and which claims follow; or how a model wants its images."""
    if what is None:
        from harness.cli import doctor as command

        return command.doctor(as_json=as_json)
    if model is None or data is None:
        raise typer.BadParameter("doctor model needs MODEL and --data D, whose images it looks at")
    from harness.cli import named
    from harness.engine import devices

    devices.check(device)
    named.check_models([model], set_, weights=weights, data=data, split=split, trust=trust)
    from harness.cli.doctor import model as of_model

    where, sets = devices.device(device), set_ or []
    return of_model.model(
        model, data, sets, weights, where,
        classes=classes or [], split=split, trust=trust, as_json=as_json,
    )  # fmt: skip

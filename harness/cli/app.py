"""The command `detbench` with its subcommands on studies and on models; `rest` adds the others.

Each imports what carries it out when it is called, so that `--help` loads no torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.lists import data_app, list_app, weights_app
from harness.cli.options import (
    Classes,
    Data,
    Device,
    Format,
    Fresh,
    Json,
    KeepStale,
    Measured,
    Out,
    Remeasure,
    Sets,
    SharedClasses,
    Size,
    Split,
    StartWeights,
    Storage,
    StudyName,
    TrackingUri,
    Trust,
    Weights,
    Where,
    at_most_one,
    sized,
    with_weights,
)
from harness.cli.rest import rest_app

EPILOG = (
    "Exit status: 0 all done; 1 some trials failed, or something essential is broken;"
    " 2 refused before anything started."
)


app = typer.Typer(
    help="Sweep a detector's knobs; train, count and time every variant; trust the table.",
    epilog=EPILOG,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would be half of the time of --help
)
app.add_typer(list_app, name="list")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.add_typer(rest_app)


@app.command()
def run(
    study: StudyName,
    data: Data = None,
    set_: Sets = None,
    weights: StartWeights = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time; else one a device.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda:0; else all GPUs, if there are any.")
    ] = None,
    out: Out = Path("runs"),
    storage: Storage = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="TRIAL", help="Run this trial of the study; may be repeated."),
    ] = None,
    executor: Annotated[
        Where, typer.Option(help="Processes here, or the Ray cluster that runs already.")
    ] = Where.LOCAL,
    resources: Annotated[
        str | None, typer.Option(help="Of a node of Ray, a trial.", metavar="CPU=4,GPU=1")
    ] = None,
    measure_on: Annotated[
        str | None, typer.Option(help="Resource of the nodes of Ray that trials run on.")
    ] = None,
    remeasure: Remeasure = None,
    tracking_uri: TrackingUri = None,
    tracking: Annotated[bool, typer.Option(help="Log to MLflow.")] = True,
    report: Annotated[bool, typer.Option(help="Write the study's page.")] = True,
    keep_stale: KeepStale = False,
    fresh: Fresh = False,
    as_json: Json = False,
) -> int:
    """Run a study: every trial whose record does not stand yet."""
    from harness.engine import server

    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise typer.BadParameter(
            "torchrun starts the processes of one training: use it with `detbench train`;"
            " `detbench run` starts its own, --workers of them"
        )
    here = executor is Where.LOCAL
    if here:
        server.warm_up()
    from harness.cli import run as command
    from harness.engine import devices, ray
    from harness.tracking import uri

    if here and (resources or measure_on):
        raise typer.BadParameter("--resources and --measure-on need --executor ray")
    for other, given in (("--only", bool(only)), ("--executor ray", not here)):
        at_most_one({"--remeasure": remeasure is not None, other: given})
    options = command.Options(
        remeasure=remeasure is not None,
        devices=devices.slots(device, workers) if here else ["cpu"],
        cluster=None if here else ray.demand(resources, measure_on, device),
        workers=workers,
        out=out,
        storage=storage,
        only=only or [],
        tracker=uri(tracking_uri) if tracking else None,
        report=report,
        keep_stale=keep_stale,
        fresh=fresh,
    )
    sets = with_weights(set_, weights)
    return command.run(study, data, sets, options, as_json=as_json)


@app.command()
def status(
    study: StudyName,
    data: Data = None,
    set_: Sets = None,
    weights: StartWeights = None,
    out: Out = Path("runs"),
    storage: Storage = None,
    as_json: Json = False,
) -> int:
    """Say how far a study is, who runs what, and what failed."""
    from harness.cli import status as command

    sets = with_weights(set_, weights)
    return command.status(study, data, sets, out, storage, as_json=as_json)


@app.command()
def check(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Files or names.")],
    data: Data = None,
    set_: Sets = None,
    weights: StartWeights = None,
    out: Out = Path("runs"),
    device: Device = None,
    probe: Annotated[
        bool,
        typer.Option(help="Once nothing is refused, train some seconds if no record here tells."),
    ] = True,
    as_json: Json = False,
) -> int:
    """Validate studies, build every trial, print the plan: hours and disk included."""
    from harness.cli import check as command
    from harness.engine import devices

    options = command.Options(devices.device(device), out, probe)
    return command.check(studies, data, with_weights(set_, weights), options, as_json=as_json)


@app.command()
def measure(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names of detectors.")],
    data: Data = None,
    split: Split = "val",
    size: Size = None,
    set_: Sets = None,
    weights: Weights = None,
    device: Device = None,
    runtimes: Annotated[
        str | None,
        typer.Option(help="Runtimes side by side: eager,compile,onnxruntime.", metavar="R,R,..."),
    ] = None,
    nms_frontier: Annotated[
        bool, typer.Option("--nms-frontier", help="Try settings of NMS: mAP against time.")
    ] = False,
    count_only: Annotated[
        bool, typer.Option("--count-only", help="Two counters and published figures, no timing.")
    ] = False,
    exported: Annotated[
        bool, typer.Option("--exported", help="With --count-only: count exported graphs, too.")
    ] = False,
    out: Measured = None,
    classes: Classes = None,
    shared_classes: SharedClasses = False,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Count and time detectors side by side, without training."""
    from harness.cli import measure as command
    from harness.engine import devices

    sets = sized(set_, size)
    ways = {"--nms-frontier": nms_frontier, "--count-only": count_only}
    at_most_one({"--runtimes": runtimes is not None, **ways})
    if exported and not count_only:
        raise typer.BadParameter("--exported goes with --count-only")
    if (classes or shared_classes) and not nms_frontier:
        raise typer.BadParameter("--classes and --shared-classes go with --nms-frontier")
    if count_only:
        from harness.cli import count
        from reports import tables

        return count.count(
            models,
            sets,
            exported=exported,
            out=out,
            markdown=tables.to_markdown,
            trust=trust,
            as_json=as_json,
        )
    if nms_frontier:
        from harness.cli import frontier
        from reports import frontier as page

        return frontier.frontier(
            models,
            data or "shapes",
            sets,
            weights,
            devices.device(device),
            out=out or Path("nms_frontier.html"),
            write=page.write,
            classes=classes or [],
            shared=shared_classes,
            split=split,
            trust=trust,
            as_json=as_json,
        )
    return command.measure(
        models,
        data or "shapes",
        sets,
        weights,
        devices.device(device),
        runtimes=[] if runtimes is None else [name.strip() for name in runtimes.split(",")],
        out=out,
        split=split,
        trust=trust,
        as_json=as_json,
    )


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A detector's name, or a folder with weights.")],
    data: Annotated[str, typer.Option(help="shapes, coco2017 or a folder.", metavar="D")],
    split: Split = "val",
    weights: Weights = None,
    set_: Sets = None,
    classes: Classes = None,
    shared_classes: SharedClasses = False,
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Evaluate one detector on a split of a data set, such as val."""
    from harness.cli import evaluate as command
    from harness.engine import devices

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


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A detector's name, or a folder with weights.")],
    format_: Annotated[Format, typer.Option("--format", help="Of the file.")] = Format.ONNX,
    weights: Weights = None,
    set_: Sets = None,
    size: Size = None,
    opset: Annotated[
        int | None, typer.Option(min=1, help="Of ONNX's operators; else the exporter's choice.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; else MODEL.onnx, here.", show_default=False)
    ] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> int:
    """Write one deployed detector to a file, once it was seen to predict the same."""
    from harness.cli import export as command

    del format_  # there is one
    return command.export(
        model, weights, sized(set_, size), out, opset, trust=trust, as_json=as_json
    )


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A trial's folder, or seeds: X,Y,Z.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise; judged against A.")],
    data: Data = None,
    alone: Annotated[bool, typer.Option("--alone", help="Leave other seeds out.")] = False,
    mixed: Annotated[bool, typer.Option("--mixed", help="Allow unlike protocols or data.")] = False,
    as_json: Json = False,
) -> int:
    """Say whether B is better than A: over images, seeds, and in time."""
    from harness.cli import compare as command

    return command.compare(a, b, data_name=data, alone=alone, mixed=mixed, as_json=as_json)


@app.command()
def report(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="Studies, or folders of records.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pages.")],
    runs: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs"),
    mixed: Annotated[bool, typer.Option("--mixed", help="Allow unlike protocols.")] = False,
    earlier: Annotated[
        bool,
        typer.Option("--earlier", help="Show trials of earlier versions of a study's file, apart."),
    ] = False,
    keep_stale: KeepStale = False,
    as_json: Json = False,
) -> int:
    """Write a page a study from its records."""
    from harness.cli import report as command

    return command.report(
        studies, out, runs, mixed=mixed, earlier=earlier, keep_stale=keep_stale, as_json=as_json
    )

"""The command `detbench` with its subcommands that run, count or time; others are added.

Each imports what carries it out when it is called, so that `--help` loads no torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.examples import EXAMPLES
from harness.cli.lists import data_app, list_app, weights_app
from harness.cli.options import (
    Classes,
    Data,
    Device,
    Fresh,
    Json,
    KeepStale,
    Measured,
    ModelNames,
    Models,
    Out,
    Remeasure,
    Sets,
    SharedClasses,
    Size,
    Split,
    StartWeights,
    Storage,
    StudyName,
    StudyNames,
    TrackingUri,
    Trust,
    Weights,
    Where,
    at_most_one,
    show_version,
    sized,
    with_weights,
)
from harness.cli.rest import rest_app
from harness.cli.single import single_app

EPILOG = (
    "Exit status: 0 all done; 1 some trials failed, or something essential is broken;"
    " 2 refused before anything started."
)


app = typer.Typer(
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would be half of the time of --help
)
app.add_typer(list_app, name="list")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")
app.add_typer(single_app)
app.add_typer(rest_app)


@app.callback()
def detbench(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Say it; end.")
    ] = False,
) -> None:
    """Sweep a detector's knobs; train, count and time every variant; trust the table."""
    del version  # its callback has ended the command


@app.command(epilog=EXAMPLES["run"])
def run(
    study: StudyName,
    data: Data = None,
    set_: Sets = None,
    weights: StartWeights = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at a time; else one a GPU, up to 4 of a sweep on a CPU."),
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
    models: Models = True,
    report: Annotated[bool, typer.Option(help="Write the study's page.")] = True,
    keep_stale: KeepStale = False,
    fresh: Fresh = False,
    as_json: Json = False,
) -> int:
    """Run a study: every trial whose record does not stand yet."""
    from harness.cli import named
    from harness.engine import devices, server

    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise typer.BadParameter(
            "torchrun starts the processes of one training: use it with `detbench train`;"
            " `detbench run` starts its own, --workers of them"
        )
    here, sets = executor is Where.LOCAL, with_weights(set_, weights)
    if here and (resources or measure_on):
        raise typer.BadParameter("--resources and --measure-on need --executor ray")
    for other, given in (("--only", bool(only)), ("--executor ray", not here)):
        at_most_one({"--remeasure": remeasure is not None, other: given})
    if here:
        devices.check(device)
    named.check_study(study, data, sets)
    if here:
        server.warm_up()
    from harness.cli import run as command
    from harness.engine import ray
    from harness.tracking import uri

    options = command.Options(
        remeasure=remeasure is not None,
        devices=devices.slots(device, workers) if here else ["cpu"],
        cluster=None if here else ray.demand(resources, measure_on, device),
        workers=workers,
        out=out,
        storage=storage,
        only=only or [],
        tracker=uri(tracking_uri) if tracking else None,
        models=models,
        report=report,
        keep_stale=keep_stale,
        fresh=fresh,
    )
    return command.run(study, data, sets, options, as_json=as_json)


@app.command(epilog=EXAMPLES["status"])
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
    from harness.cli import named

    sets = with_weights(set_, weights)
    named.check_records(study, out, data, sets)
    from harness.cli import status as command

    return command.status(study, data, sets, out, storage, as_json=as_json)


@app.command(epilog=EXAMPLES["check"])
def check(
    studies: StudyNames,
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
    from harness.cli import named
    from harness.engine import devices

    devices.check(device)
    sets = with_weights(set_, weights)
    for study in studies:
        named.check_study(study, data, sets)
    from harness.cli import check as command

    options = command.Options(devices.device(device), out, probe)
    return command.check(studies, data, sets, options, as_json=as_json)


@app.command(epilog=EXAMPLES["measure"])
def measure(
    models: ModelNames,
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
    from harness.cli import folders, named
    from harness.engine import devices

    sets = sized(set_, size)
    ways = {"--nms-frontier": nms_frontier, "--count-only": count_only}
    at_most_one({"--runtimes": runtimes is not None, **ways})
    if exported and not count_only:
        raise typer.BadParameter("--exported goes with --count-only")
    if (classes or shared_classes) and not nms_frontier:
        raise typer.BadParameter("--classes and --shared-classes go with --nms-frontier")
    by = [] if runtimes is None else [name.strip() for name in runtimes.split(",")]
    devices.check(device)
    named.named_runtimes(by)
    source = None if count_only else data or "shapes"
    given = None if count_only else weights
    named.check_models(models, sets, weights=given, data=source, split=split, trust=trust)
    if out is not None and count_only:
        folders.check_file(out)
    elif out is not None and nms_frontier:
        folders.check_page(out, folders.HTML)
    elif out is not None:
        folders.check_folder(out)
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
    from harness.cli import measure as command

    return command.measure(
        models,
        data or "shapes",
        sets,
        weights,
        devices.device(device),
        runtimes=by,
        out=out,
        split=split,
        trust=trust,
        as_json=as_json,
    )

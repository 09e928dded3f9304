"""The subcommands of `detbench list`, `detbench data` and `detbench weights`.

Each imports what carries it out when it is called, so that `--help` loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.examples import EXAMPLES
from harness.cli.options import DetectorName, Json, OnlySplit, Sets, Splits

list_app = typer.Typer(
    help="List detectors, knobs, studies, recipes or published tables.", no_args_is_help=True
)
data_app = typer.Typer(help="Check, describe or get a data set.", no_args_is_help=True)
weights_app = typer.Typer(help="List, get or convert released weights.", no_args_is_help=True)


@list_app.command("detectors", epilog=EXAMPLES["list detectors"])
def list_detectors(as_json: Json = False) -> int:
    """Names of all detectors."""
    import detectors

    return _names(detectors.names(), as_json=as_json)


@list_app.command("studies", epilog=EXAMPLES["list studies"])
def list_studies(as_json: Json = False) -> int:
    """The studies that come with the package: what each asks, and what it costs."""
    from harness.cli import shelf as command

    return command.studies(as_json=as_json)


@list_app.command("recipes", epilog=EXAMPLES["list recipes"])
def list_recipes(as_json: Json = False) -> int:
    """The recipes that come with the package: what each is for, and what it costs."""
    from harness.cli import shelf as command

    return command.recipes(as_json=as_json)


@list_app.command("tables", epilog=EXAMPLES["list tables"])
def list_tables(
    paper: Annotated[
        str | None, typer.Argument(help="A file of studies/papers; all where none is named.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Published tables, and the study that repeats each, or why none does."""
    from harness.cli import published as command

    return command.show(paper, as_json=as_json)


@list_app.command("knobs", epilog=EXAMPLES["list knobs"])
def list_knobs(
    detector: DetectorName,
    part: Annotated[
        str,
        typer.Argument(metavar="[PART]", help="Of a knob's path; else all.", show_default=False),
    ] = "",
    as_json: Json = False,
) -> int:
    """Everything that a study can turn, with type, default and meaning."""
    from harness.cli import knobs as command

    return command.knobs(detector, part, as_json=as_json)


@data_app.command("check", epilog=EXAMPLES["data check"])
def data_check(
    path: Annotated[str, typer.Argument(help="A folder in COCO layout.")],
    split: OnlySplit = None,
    as_json: Json = False,
) -> int:
    """Report what is wrong with a data set, before anything trains."""
    from harness.cli import data as command

    return command.check(path, split, as_json=as_json)


@data_app.command("show", epilog=EXAMPLES["data show"])
def data_show(
    name: Annotated[str, typer.Argument(metavar="D", help="shapes, coco2017 or a folder.")],
    split: OnlySplit = None,
    set_: Sets = None,
    as_json: Json = False,
) -> int:
    """Describe a data set: images, classes, sizes, fingerprint."""
    from harness.cli import named

    named.check_data(name, set_, split)
    from harness.cli import data as command

    return command.show(name, set_ or [], split, as_json=as_json)


@data_app.command("get", epilog=EXAMPLES["data get"])
def data_get(
    name: Annotated[str, typer.Argument(metavar="D", help="coco2017, the only one there is.")],
    split: Annotated[Splits, typer.Option(help="What of it; a training needs both.")] = Splits.ALL,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for it; else $DETBENCH_COCO or data/coco.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Download COCO 2017 and unpack it; what is here already stays."""
    from harness.cli import named

    named.check_gettable(name)
    from harness.cli import get as command

    wanted = ("train", "val") if split is Splits.ALL else (split.value,)
    return command.get(wanted, to, as_json=as_json)


@weights_app.command("list", epilog=EXAMPLES["weights list"])
def weights_list(as_json: Json = False) -> int:
    """Released weights: which there are, which are here, and where the others come from."""
    from harness.cli import weights as command

    return command.show(as_json=as_json)


@weights_app.command("get", epilog=EXAMPLES["weights get"])
def weights_get(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="A detector, for its weights of COCO, or DETECTOR/SOURCE."
        ),
    ],
    as_json: Json = False,
) -> int:
    """Download released weights; what is here already stays."""
    from harness.cli import weights as command

    return command.get(names, as_json=as_json)


@weights_app.command("convert", epilog=EXAMPLES["weights convert"])
def weights_convert(
    file: Annotated[Path, typer.Argument(help="ONNX, whose norms were folded.")],
    detector: Annotated[str, typer.Option(help="A name from `detbench list detectors`.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights.")],
    classes: Annotated[
        str | None, typer.Option(help="Their names by label.", metavar="NAME,NAME,...")
    ] = None,
    set_: Sets = None,
    as_json: Json = False,
) -> int:
    """Turn a graph for inference into weights that every command takes."""
    from harness.cli import named

    named.check_models([detector], set_)
    from harness.cli import convert as command

    return command.convert(file, detector, out, set_ or [], classes, as_json=as_json)


def _names(names: Sequence[str], *, as_json: bool) -> int:
    print(json.dumps(list(names)) if as_json else "\n".join(names))
    return 0

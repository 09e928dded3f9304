"""`detbench weights convert`: a graph for inference becomes a folder of weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import study as studies
from harness.cli import console
from harness.cli.console import print_json
from harness.cli.folders import refuse_taken
from harness.cli.named import configured
from harness.released.convert import convert as convert_file
from harness.study import StudyError


def convert(
    file: Path,
    detector: str,
    out: Path,
    sets: Sequence[str],
    classes: str | None,
    *,
    as_json: bool,
) -> int:
    """Write the weights of an ONNX file as a folder that every command takes for weights.

    Args:
        file: the graph.
        detector: name of the one that it is of.
        out: the folder.
        sets: knobs of that detector, `PATH=VALUE`.
        classes: their names by label, with commas between; None for those that are known.
        as_json: whether to print JSON.

    Raises:
        StudyError: the folder holds something.
        WeightsError: the file is no graph, or not of this detector.
    """
    refuse_taken(out, "convert")
    config = configured(detector, studies.changes(sets)).detector
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    if names is not None and not all(names):
        raise StudyError(f"--classes {classes!r}: a name is empty; give NAME,NAME,... by label")
    twice = next((name for name in names or () if (names or []).count(name) > 1), None)
    if twice is not None:
        raise StudyError(f"--classes: {twice} stands twice; give each label a name of its own")
    done = convert_file(file, detector, config, out, names)
    if as_json:
        print_json({**done._asdict(), "folder": str(done.folder)})
        return 0
    known = "of unknown classes: name them with --classes"
    if done.classes is not None:
        known = f"of the classes {', '.join(done.classes)}"
    console.stdout().print(
        f"{done.folder}: {done.convolutions} convolutions, {known}; layers differ from the graph's"
        f" by {done.apart:.1e} of their largest output"
    )
    return 0

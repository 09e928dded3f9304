"""`detbench export`: write one deployed detector to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import adapters
from harness import study as studies
from harness.cli import console
from harness.cli.console import print_json
from harness.cli.models import created, weights_of
from harness.cli.named import configured, trusted_names
from harness.measure.complexity.exported import count_macs
from harness.measure.runtimes import export as exporter
from harness.records import RecordError, record
from harness.study import StudyError
from harness.study.start import known_classes


def export(
    model: str,
    weights: str | None,
    sets: Sequence[str],
    out: Path | None,
    opset: int | None,
    *,
    any_batch: bool = False,
    trust: bool = False,
    as_json: bool,
) -> int:
    """Write one deployed detector as ONNX."""
    setup = configured(model, studies.changes(sets), trusted_names([model], trust=trust))
    if adapters.is_foreign(model):
        raise StudyError(f"export writes detectors of ours; {model} is none")
    studies.check_size(setup.detector)
    path = out or Path(f"{Path(model).resolve().name.replace(':', '_')}.onnx")
    if path.is_dir():
        raise RecordError(f"{path}: is a folder; name a file with --out")
    record.make_folder(path.parent)
    source = weights_of(model, weights, setup.detector)
    detector = created(model, setup, source)
    names = known_classes(source, detector.config).names if source is not None else None
    size = detector.config.input.largest
    done = exporter.export(
        detector, size, path, opset, name=model, classes=names, any_batch=any_batch
    )
    counted = count_macs(done.path)
    found = {
        "path": str(done.path),
        "sha256": done.sha256,
        "opset": done.opset,
        "params": counted.params,
        "params_deployed": done.parameters,
        "macs": counted.macs,
        "flops": 2 * counted.macs,
        "macs_by_stage": counted.by_stage,
        "macs_by_operator": counted.by_operator,
        "macs_not_counted": counted.not_counted,
        "operators": done.operators,
        "agreement": str(done.agreement),
    }
    if as_json:
        print_json(found)
        return 0
    rows = [{"what": key, "value": _worded(value)} for key, value in found.items() if value != {}]
    console.stdout().print(console.table({"what": "what", "value": "value"}, rows, model))
    return 0


def _worded(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return str(value)

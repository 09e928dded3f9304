"""Records for notebooks: those of studies as a list, and as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import snapshot, variants
from harness.records.record import FILE, Record, RecordError, read, read_all

if TYPE_CHECKING:
    import pandas as pd

FACTS = ("study", "trial", "name", "detector", "seed", "state")
UNITS = {
    "mAP": "share of 1",
    "AR": "share of 1",
    "prop": "share of 1",
    "params": "parameters",
    "macs": "multiply-accumulates per image",
    "flops": "operations per image, two per multiply-accumulate",
    "images_per_second": "images per second",
    "roofline_fraction": "share of 1",
    "uncounted_fraction": "share of 1",
    "latency_ratio": "times the baseline's",
    "reference_ratio": "times the workload's",
}
"""Units by the name of a metric, or by how it begins."""
ENDINGS = {"_ms": "milliseconds per image", "_bytes": "bytes", "_j": "joules per image"}


class Records(list[Record]):
    """Records of studies, in the order in which their trials were started."""

    def frame(self) -> pd.DataFrame:
        """Return a row a trial: facts, a column a knob that some trial overrides, and all metrics.

        Knobs have their dotted paths as names, metrics those of `Record`, in its units, which stand
        in `attrs["units"]` by column: `mAP` is a share of 1, `latency_ms` is in milliseconds. What
        a trial lacks is NaN, and lists are text, so that every cell is one value. Trials that
        failed have a row, too: `frame.query("state == 'done'")` leaves them out.
        """
        import pandas as pd  # slow to import, and only notebooks need it

        paths = [path for path in variants.knobs(self) if path != "detector"]
        rows = [
            {name: getattr(record, name) for name in FACTS}
            | {path: _scalar(variants.value(record, path)) for path in paths}
            | record.metrics
            for record in self
        ]
        metrics = list(dict.fromkeys(name for record in self for name in record.metrics))
        made: pd.DataFrame = pd.DataFrame(rows, columns=[*FACTS, *paths, *metrics])
        made.attrs["units"] = {name: found for name in metrics if (found := unit(name))}
        return made


def load(*folders: str | Path, earlier: bool = False) -> Records:
    """Read the records of trials, of studies, or of all studies of a folder.

    Args:
        folders: such as `runs/quickstart/0123456789ab`, `runs/quickstart` or `runs`.
        earlier: whether trials count that a study's file did not ask for at its last run.

    Raises:
        RecordError: a folder holds no record, or one that cannot be read.
    """
    found = Records()
    for folder in map(Path, folders):
        if (folder / FILE).is_file():
            found.append(read(folder))
            continue
        studies = [folder, *sorted(folder.glob("*"))] if folder.is_dir() else []
        read_here = [one for study in studies for one in _of_study(study, earlier)]
        if not read_here:
            raise RecordError(f"{folder}: no {FILE} there; name the folder of a study or of runs")
        found += read_here
    return found


def _of_study(folder: Path, earlier: bool) -> Iterable[Record]:
    """Read the records of one study's folder."""
    records = read_all(folder) if folder.is_dir() and not folder.name.startswith(".") else []
    known = None if earlier else snapshot.load(folder)
    return [one for one in records if known is None or one.trial in known.trials]


def unit(metric: str) -> str:
    """Return the unit of a metric; nothing where that is not known."""
    by_ending = (text for ending, text in ENDINGS.items() if metric.endswith(ending))
    by_start = (text for start, text in UNITS.items() if metric.startswith(start))
    return next(by_ending, None) or next(by_start, "")


def _scalar(setting: Any) -> Any:
    return variants.plain(setting) if isinstance(setting, list | tuple | dict) else setting

"""What finished trials were evaluated on, if that is still here, and how precise they were."""

from __future__ import annotations

from pathlib import Path

from harness import data
from harness.config import knobs
from harness.config.data import DataError
from harness.data import DataSet
from harness.measure.accuracy import detections, precision
from harness.measure.accuracy.evaluate import max_detections
from harness.records import Record, artifact
from harness.records.precision import Precision, read


class Seen:
    """Opens the data sets of records, each once."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._data: dict[str, DataSet | None] = {}

    def opened(self, record: Record) -> DataSet | None:
        """Open what a trial was evaluated on; None if that is not here as it was."""
        fingerprint = str(record.data.get("fingerprint"))
        if fingerprint not in self._data:
            own = {key: value for key, value in record.config.items() if key.startswith("data.")}
            try:
                found = data.load(knobs.turn(knobs.start(None, None, "shapes"), own).data)
            except (DataError, ValueError):
                self._data[fingerprint] = None
            else:
                same = found.fingerprint == fingerprint
                self._data[fingerprint] = found if same else None
        return self._data[fingerprint]

    def precision(self, folder: Path, record: Record) -> Precision | None:
        """Return how precise a trial was: as it lies beside the record, or from its detections.

        Args:
            folder: the trial's.
            record: its record, which may be from before there was such a file.

        Returns:
            None where neither the file nor what it is made from is here.

        Raises:
            RecordError: a file is damaged.
        """
        stored = read(folder, record)
        name = record.artifacts.get("detections")
        if stored is not None or name is None or record.state != "done":
            return stored
        known_classes_only = "classes" in record.protocol
        if known_classes_only or not (folder / name).is_file():
            return None
        dataset = self.opened(record)
        if dataset is None:
            return None
        found = detections.read(artifact(folder, name))
        return precision.measure(dataset.val.ground_truth(), found, max_detections(record)[-1])

"""Checkpoints: all that a training is, in one file, from which it goes on as if never ended."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from detectors.config import flatten
from harness.config.recipe import Recipe
from harness.records import files
from harness.training import processes

FILE = "checkpoint.pt"
NOT_FINITE = "not_finite.pt"
FORMAT = 1

State = dict[str, Any]


class CheckpointError(ValueError):
    """A checkpoint of another training than the one that is to go on."""


def identify(
    config: Any, data: str, recipe: Recipe, seed: int, device: torch.device
) -> dict[str, str]:
    """Say which training a checkpoint belongs to: what determines the result, and the machine.

    Args:
        config: of the detector.
        data: fingerprint of the data set.
        recipe: how it is trained.
        seed: of the training.
        device: whose kind counts.
    """
    knobs = {f"detector.{path}": value for path, value in flatten(config).items()}
    knobs |= {f"recipe.{name}": value for name, value in recipe.of_result().items()}
    told = {
        **knobs,
        "data": data,
        "seed": seed,
        "device": device.type,
        "processes": processes.count(),
    }
    return {name: str(value) for name, value in told.items()}


def write(state: State, file: Path) -> Path:
    """Write a state so that a reader finds the old one or the new, never a part.

    Raises:
        OSError: it cannot be written, such as on a full disk.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(file) as stream:
        noting = _Noting(stream)
        try:
            torch.save({"format": FORMAT, **state}, noting)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise noting.error or error from error
    return file


class _Noting:
    """A stream that remembers why nothing can be written to it, which torch leaves out."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.error: OSError | None = None
        self.flush = stream.flush

    def write(self, data: bytes) -> int:
        """Write some bytes."""
        try:
            return self.stream.write(data)
        except OSError as error:
            self.error = error
            raise


def read(folder: Path, identity: dict[str, str]) -> State | None:
    """Return the state in a folder; None where there is none, or where it is damaged.

    torch writes a checksum of each of its records, and does not look at them when it reads.

    Raises:
        CheckpointError: it is that of another training.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                return None
        state: State = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # torch names no class for each of the ways in which a file can be damaged
        return None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return None
    if not isinstance(state.get("identity"), dict):
        return None
    _check(state["identity"], identity, file)
    return state


def _check(found: dict[str, str], wanted: dict[str, str], file: Path) -> None:
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{file}: belongs to a training with {name} {found.get(name)}, this one has "
                f"{wanted.get(name)}; remove the folder to start anew"
            )


class Keeper:
    """Decides when a training writes its checkpoint, and where."""

    def __init__(self, folder: Path | None, minutes: float) -> None:
        self.folder = folder
        self._seconds = 60 * minutes
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Say whether so much time has passed that the first process wants a checkpoint."""
        if self.folder is None:
            return False
        return processes.gather(time.monotonic() - self._last >= self._seconds)[0]

    def keep(self, state: State, name: str = FILE) -> Path:
        """Write a state; all processes call it, the first writes."""
        assert self.folder is not None
        file = self.folder / name
        if processes.is_first():
            write(state, file)
        self._last = time.monotonic()
        return file

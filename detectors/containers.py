"""Files of weights: what torch.save and safetensors write, read safely and checked for damage."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from detectors import unpickling
from detectors.interface import WeightsError
from detectors.unpickling import Opaque, UnpicklingError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
CHECKSUM = "detbench.sha256"
"""Under which key of a safetensors file's metadata `write` leaves the checksum of its tensors."""
_ZIP = b"PK\x03\x04"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch.save before 1.6
_BEFORE = b"\x80\x02\x8a\x0a" + _MAGIC.to_bytes(10, "little")


def read(file: Path) -> dict[str, Any]:
    """Read what a file holds onto the CPU; what it is, its content tells.

    Nothing that the file names is imported or called: what is neither a tensor nor a plain value
    becomes `unpickling.Opaque`.

    Raises:
        WeightsError: it cannot be read, is damaged, or holds no dict.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
            stream.seek(0)
            if start.startswith(_ZIP):
                content = _read_zip(stream)
            elif start.startswith(_BEFORE):
                content = _read_before_zip(stream)
            elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size:
                return _read_safetensors(file)
            else:
                raise WeightsError(f"{file}: {_what_else(start, file.suffix)}")
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (UnpicklingError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{file}: not a file that torch.save wrote, or damaged: {error}"
        ) from error
    if isinstance(content, Opaque):
        raise WeightsError(
            f"{file}: holds an object of {content.name}, expected a state dict; save its"
            " state_dict() alone"
        )
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        kind = "dict with other keys" if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"{file}: holds a {kind}, expected a state dict")
    return content


def write(state: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file with a checksum, which `read` verifies.

    Raises:
        OSError: it cannot be written, such as on a full disk.
    """
    save_file(dict(state), file, metadata={CHECKSUM: checksum(state)})


def checksum(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of tensors, their names, types and shapes."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            told = (opened.metadata() or {}).get(CHECKSUM)
        state: dict[str, Any] = load_file(file)
    except (SafetensorError, ArithmeticError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{file}: not a safetensors file, or damaged: {error}") from error
    if told is not None and told != checksum(state):
        raise WeightsError(f"{file}: damaged: its tensors do not have the checksum that it names")
    return state


def _read_zip(stream: BinaryIO) -> Any:
    """Read what torch.save writes; each record has a checksum, which zipfile verifies."""
    try:
        with zipfile.ZipFile(stream) as archive:
            records = _records(archive, stream.seek(0, io.SEEK_END))
    except (EOFError, LookupError, RuntimeError, ValueError, OverflowError, struct.error) as error:
        raise UnpicklingError(str(error)) from error
    folder = next((n.removesuffix("data.pkl") for n in records if n.endswith("data.pkl")), None)
    if folder is None:
        raise UnpicklingError("there is no data.pkl inside")
    if folder + "constants.pkl" in records:
        raise UnpicklingError("a TorchScript archive; save the state_dict() of the model instead")
    if records.get(folder + "byteorder", b"little") != b"little":
        raise UnpicklingError("its numbers are of a big-endian machine; save it anew")

    def fetch(key: str, size: int) -> Tensor:
        data = records.get(f"{folder}data/{key}", bytearray())
        if len(data) != size:
            raise UnpicklingError(f"record {key} has {len(data)} bytes, expected {size}")
        return _bytes(data)

    return unpickling.read(io.BytesIO(records[folder + "data.pkl"]), fetch)


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, bytearray]:
    """Return all records, which torch writes without compression."""
    items = archive.infolist()
    if any(item.compress_type != zipfile.ZIP_STORED for item in items):
        raise UnpicklingError("a record is compressed, which torch.save never does")
    if sum(item.file_size for item in items) > size:
        raise UnpicklingError("its records are larger than the file")
    return {item.filename: bytearray(archive.read(item)) for item in items}


def _read_before_zip(stream: BinaryIO) -> Any:
    """Read what torch.save wrote before 1.6: pickles, then the numbers, without checksums."""
    whole = io.BytesIO(stream.read())
    numbers = _Numbers(len(whole.getbuffer()))
    magic, protocol, system = (unpickling.read(whole, numbers.fetch) for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not isinstance(system, dict):
        raise UnpicklingError("an unknown beginning")
    if system.get("little_endian") is not True:
        raise UnpicklingError("its numbers are of a big-endian machine; save it anew")
    content = unpickling.read(whole, numbers.fetch)
    keys = unpickling.read(whole, numbers.fetch)
    if not isinstance(keys, list) or sorted(map(_text, keys)) != sorted(numbers.storages):
        raise UnpicklingError("its numbers are not those of its tensors")
    for key in keys:
        numbers.read(key, whole)
    if whole.read(1):
        raise UnpicklingError("something follows its end")
    return content


class _Numbers:
    """The storages of a file that has its numbers behind all else; zeros until they are read."""

    def __init__(self, size: int) -> None:
        self.left = size  # bytes that there may be of them
        self.storages: dict[str, bytearray] = {}

    def fetch(self, key: str, size: int) -> Tensor:
        """Return the bytes of a storage."""
        if key not in self.storages:
            self.left -= size
            if self.left < 0:
                raise UnpicklingError("its tensors are larger than the file")
            self.storages[key] = bytearray(size)
        if len(self.storages[key]) != size:
            raise UnpicklingError(f"storage {key} is of two sizes")
        return _bytes(self.storages[key])

    def read(self, key: str, stream: BinaryIO) -> None:
        """Read the count of numbers and the numbers of a storage."""
        data, count = self.storages[key], int.from_bytes(stream.read(8), "little")
        if len(data) not in (count, 2 * count, 4 * count, 8 * count):
            raise UnpicklingError(f"storage {key} has {len(data)} bytes and {count} numbers")
        if stream.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise UnpicklingError("the file is cut short")


def _text(key: Any) -> str:
    return key if isinstance(key, str) else ""


def _bytes(data: bytearray) -> Tensor:
    if not data:
        return torch.zeros(0, dtype=torch.uint8)
    return torch.frombuffer(data, dtype=torch.uint8)


def _what_else(start: bytes, suffix: str) -> str:
    """Say what a file is that is none of weights."""
    if not start:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS; fetch the file that it stands for"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not weights; its download went wrong"
    if all(32 <= byte < 127 or byte in b"\t\n\r" for byte in start):
        return "a text file, not weights"
    wrote = "safetensors" if suffix == ".safetensors" else "torch.save"
    return f"not a file that {wrote} wrote"

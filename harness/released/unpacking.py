"""Unpacks archives: the files of one folder, whole or not at all, and none anywhere else."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from harness.config.data import DataError
from harness.records.progress import OnProgress, Progress, ignore
from harness.records.record import is_plain

CHUNK = 1 << 20  # bytes copied at a time


def unpack(
    archive: Path,
    folder: str,
    files: Collection[str],
    to: Path,
    on_progress: OnProgress = ignore,
) -> None:
    """Unpack files of one folder of an archive into the folder of the same name.

    They are written beside the archive first and put in place when all are there, so that a process
    that dies leaves no half of a folder that looks like a whole one.

    Args:
        archive: a zip file.
        folder: of its members; others are left in it.
        files: of that folder; none for all of them, and then the folder is not there yet.
        to: where the folder goes, on the same disk as the archive.
        on_progress: phase `unpack`, in bytes.

    Raises:
        DataError: the archive is damaged, lacks a file, or has one that leads out of its folder.
        OSError: there is no room, or it cannot be written.
    """
    beside = archive.parent / f".{folder}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        with ZipFile(archive) as packed:
            members = _members(archive, packed.infolist(), folder, files)
            _check_room(beside, members)
            _copy(packed, members, beside, on_progress)
        _put_in_place(beside, to / folder, files)
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise DataError(
            f"{archive}: is damaged ({error}); remove it, and it is fetched again"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _members(
    archive: Path, members: Sequence[ZipInfo], folder: str, files: Collection[str]
) -> list[ZipInfo]:
    """Return the members that are wanted, all of them files.

    Raises:
        DataError: one leads out of its folder, or one is missing.
    """
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        if ".." in parts or parts[:1] in (("/",), ("//",)):
            raise DataError(
                f"{archive}: its member {member.filename!r} leads out of its folder; remove it, and"
                " it is fetched again"
            )
    found = {
        path.name: member
        for member in members
        if not member.is_dir()
        and (path := PurePosixPath(member.filename)).parts[:-1] == (folder,)
        and is_plain(path.name)
        and (not files or path.name in files)
    }
    missing = sorted({*files} - {*found}) or ([] if found else ["photographs"])
    if missing:
        raise DataError(f"{archive}: has no {folder}/{missing[0]}; remove it, and get it again")
    return list(found.values())


def _check_room(beside: Path, members: Sequence[ZipInfo]) -> None:
    if sum(member.file_size for member in members) > shutil.disk_usage(beside).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(beside))


def _copy(
    packed: ZipFile, members: Sequence[ZipInfo], beside: Path, on_progress: OnProgress
) -> None:
    """Write members into a folder; their checksums are compared on the way."""
    done, total = 0, sum(member.file_size for member in members)
    for member in members:
        target = beside / PurePosixPath(member.filename).name
        with packed.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
        done += member.file_size
        on_progress(Progress("unpack", done, total, {}))


def _put_in_place(beside: Path, place: Path, files: Collection[str]) -> None:
    """Move what was unpacked: file by file beside others, or as a whole folder."""
    if not files:
        os.replace(beside, place)  # also where an empty folder is
        return
    place.mkdir(exist_ok=True)
    for name in files:
        os.replace(beside / name, place / name)

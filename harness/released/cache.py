"""Where released files lie on this machine, and how it is seen that they are the right ones."""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from detectors import Release, WeightsError
from harness.config.data import DataError, cache_dir
from harness.records import files

FOLDER = "weights"
CACHE = "DETBENCH_CACHE"
WHOLE = 64  # hexadecimal digits of a sha256
CHUNK = 1 << 20  # bytes read at a time
HEAD = 512  # bytes at the start of a file that tell a web page from weights or an archive
ZIP = b"PK\x03\x04"  # begins archives and what torch.save writes; its contents stand at its end


def place(url: str) -> Path:
    """Return where a released file lies, or has to: below its host, at its path.

    Raises:
        WeightsError: this user has no folder for it.
    """
    return folder() / host(url) / urlsplit(url).path.lstrip("/")


def folder() -> Path:
    """Return the folder of all released files.

    Raises:
        WeightsError: this user has none.
    """
    try:
        return cache_dir() / FOLDER
    except DataError as error:
        raise WeightsError(
            f"this user has no home folder to keep weights in; name a folder in ${CACHE}"
        ) from error


def host(url: str) -> str:
    """Return the folder of an address's host."""
    return urlsplit(url).netloc.replace(":", "_")


def note_of(file: Path) -> Path:
    """Return the file beside one that holds its sha256, as `sha256sum --check` reads it."""
    return file.with_name(f"{file.name}.sha256")


def digest(file: Path) -> str:
    """Return the sha256 of a file; it is computed once as long as the file does not change."""
    found = file.stat()
    return _digest(str(file), found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=256)
def _digest(file: str, size: int, changed: int, number: int) -> str:
    found = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def checked(file: Path, release: Release) -> str:
    """Return the sha256 of a file that is at hand, once it is seen to be the release.

    Raises:
        WeightsError: it is another file.
    """
    if (what := unfit(file)) is not None:
        raise WeightsError(f"{file}: {what}; remove it, and it is fetched again")
    found = digest(file)
    what = problem(found, file, release)
    if what is not None:
        raise WeightsError(
            f"{file}: is not the released file: {what}; remove it, and it is fetched again"
        )
    note(file, found)
    return found


def unfit(file: Path) -> str | None:
    """Say why a file can be no release, whatever its hash has to be; None if it may be.

    It is asked before a hash is noted, to which all later files are held.
    """
    with file.open("rb") as stream:
        start = stream.read(HEAD)
        if is_page(start):
            return "is a web page, not the file"
        if all(32 <= byte < 127 or byte in b"\t\n\r" for byte in start):
            return "is a text, not the file" if start else "is empty"
        if start.startswith(ZIP) and not zipfile.is_zipfile(stream):
            return "is cut short"
    return None


def problem(found: str, file: Path, release: Release) -> str | None:
    """Say why content is not that of a release; None if it is, as far as can be told.

    What it has to be is what was published and, since that is seldom all, what was noted when the
    release was first used here.

    Args:
        found: sha256 of the content.
        file: where the release lies, or will.
        release: with the digits that were published.
    """
    begins = f"its sha256 begins with {found[:8]}"
    if not found.startswith(release.sha256 or ""):
        return f"{begins}, the published one with {(release.sha256 or '')[:8]}"
    noted = _noted(file)
    if noted not in (None, found):
        return f"{begins}, that of its first use, in {note_of(file)}, with {(noted or '')[:8]}"
    return None


def note(file: Path, found: str) -> None:
    """Note the sha256 of a file at its first use."""
    if _noted(file) is None:
        with suppress(OSError), files.whole(note_of(file)) as stream:  # a cache may be read-only
            stream.write(f"{found}  {file.name}\n".encode())


def is_page(start: bytes) -> bool:
    """Say whether a file begins like a web page, which no weights and no archive do."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def _noted(file: Path) -> str | None:
    """Return the sha256 that was noted of a file; None where that is the first use."""
    try:
        words = note_of(file).read_text(encoding="ascii", errors="replace").split()
    except FileNotFoundError:
        return None
    return words[0] if words else None

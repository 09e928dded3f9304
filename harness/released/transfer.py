"""One transfer of a file over HTTP, which goes on where an earlier one broke off."""

from __future__ import annotations

import base64
import errno
import http.client
import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from harness.config.secrets import masked
from harness.records.progress import OnProgress, Progress
from harness.released import cache

STALL_SECONDS = 30.0
STALL_BYTES = 30_000  # in that time, at least: a server that brings less is given up
CHUNK = 1 << 18  # bytes read at a time, at most
BEYOND = 416  # what a server answers that is asked for what is behind a file's end


class BrokenError(Exception):
    """A transfer that broke off, and may be gone on with."""


class RefusedError(Exception):
    """A server that is not there, or does not have the file."""


def transfer(url: str, partial: Path, *, known: bool, on_progress: OnProgress) -> None:
    """Bring the rest of a file.

    Args:
        url: http, https or file; with user and password, if need be.
        partial: what is here of it, perhaps nothing.
        known: whether a published hash tells, in the end, if the parts are of one file. Else it is
            gone on with only if the server says that the file is still the same.
        on_progress: phase `download`, in bytes.

    Raises:
        BrokenError: the transfer broke off, or is too slow.
        RefusedError: the server is not there, or does not have the file.
        OSError: the file cannot be written.
    """
    start = _start(url, partial, known=known)
    try:
        response = urlopen(_request(url, partial, start), timeout=STALL_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == BEYOND and start and _size(error.headers) == start:
            return
        if error.code == BEYOND and start:
            discard(partial)
            raise BrokenError("the file there has another size than before") from None
        raise RefusedError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise RefusedError(str(reason) or type(reason).__name__) from error
    with response:
        _refuse_page(response.headers.get_content_type())
        if response.status != http.client.PARTIAL_CONTENT or _from(response.headers) != start:
            start = 0
            _begin(url, partial, response.headers)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        _check_room(partial, (total or 0) - start)
        _save(response, partial, start, total, on_progress)


def _save(
    response: Any, partial: Path, start: int, total: int | None, on_progress: OnProgress
) -> None:
    """Add what a server sends to the partial file."""
    done, pace = start, _Pace()
    with partial.open("r+b") as file:
        file.seek(start)
        file.truncate()
        while True:
            try:
                chunk = response.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise BrokenError(f"broke off: {error or type(error).__name__}") from error
            if not chunk:
                break
            if done == 0 and cache.is_page(chunk):
                _refuse_page("text/html")
            file.write(chunk)
            done += len(chunk)
            pace.check(done)
            on_progress(Progress("download", done, total or done, {}))
    if total is not None and done < total:
        raise BrokenError(f"broke off after {done} of {total} bytes")


class _Pace:
    """Gives up on a server that sends next to nothing, however steadily."""

    def __init__(self) -> None:
        self.since, self.before = monotonic(), 0

    def check(self, done: int) -> None:
        """Note how much there is.

        Raises:
            BrokenError: hardly more than a while ago.
        """
        now = monotonic()
        if now - self.since < STALL_SECONDS:
            return
        if done - self.before < STALL_BYTES:
            raise BrokenError(f"brings under {STALL_BYTES} bytes in {STALL_SECONDS:g} seconds")
        self.since, self.before = now, done


def size_of(file: Path) -> int:
    """Return how many bytes a file has; 0 for none."""
    return file.stat().st_size if file.is_file() else 0


def discard(partial: Path) -> None:
    """Remove what is here of a file, and what is known of it."""
    for item in (partial, _story(partial)):
        item.unlink(missing_ok=True)


def _story(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _told(url: str, partial: Path) -> str | None:
    """Return what tells the file at an address from a later one there: its tag or date."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        story = json.loads(_story(partial).read_text(encoding="utf-8"))
        if story["url"] == masked(url):
            return str(story["tag"]) if story["tag"] else None
    return None


def _start(url: str, partial: Path, *, known: bool) -> int:
    """Return how many bytes need not be sent again."""
    return size_of(partial) if known or _told(url, partial) else 0


def _request(url: str, partial: Path, start: int) -> Request:
    """Ask for what is missing; a password goes into a header, and to this server alone."""
    parts = urlsplit(url)
    secret, at, place = parts.netloc.rpartition("@")
    headers = {"User-Agent": "detbench", "Accept-Encoding": "identity"}
    tag = _told(url, partial)
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": tag} if tag else {})
    request = Request(urlunsplit(parts._replace(netloc=place)), headers=headers)
    if at:
        user, _, password = secret.partition(":")
        words = f"{unquote(user)}:{unquote(password)}".encode()
        request.add_unredirected_header(
            "Authorization", f"Basic {base64.b64encode(words).decode('ascii')}"
        )
    return request


def _begin(url: str, partial: Path, headers: Any) -> None:
    """Begin with an empty file, and note what tells it from a later one."""
    tag = headers.get("ETag") or ""
    tag = headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
    partial.write_bytes(b"")
    _story(partial).write_text(json.dumps({"url": masked(url), "tag": tag}), encoding="utf-8")


def _from(headers: Any) -> int | None:
    """Return the byte that an answer begins with."""
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range") or "")
    return int(found[1]) if found else None


def _size(headers: Any) -> int | None:
    """Return how large the whole file is, as an answer says that has nothing of it."""
    found = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range") or "")
    return int(found[1]) if found else None


def _refuse_page(kind: str) -> None:
    """Refuse what a proxy or a login sends in place of a file.

    Raises:
        RefusedError: it is such a page.
    """
    if kind in ("text/html", "application/xhtml+xml"):
        raise RefusedError("answers with a web page, such as a proxy's or a login's")


def _check_room(partial: Path, size: int) -> None:
    """Refuse before it is sent what the disk has no room for.

    Raises:
        OSError: it has none.
    """
    if size > shutil.disk_usage(partial.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))

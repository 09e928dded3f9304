"""Downloads of released files: from mirrors or upstream, checked, and one process at a time.

`pooch` and `torch.hub` neither resume nor give up on a server that drips, and `huggingface_hub`
fetches from its own hub alone; so the bytes come by Python's own client, which knows proxies.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock, Timeout

from detectors import Release, WeightsError
from harness.config.secrets import masked
from harness.records.progress import OnProgress, Progress, ignore
from harness.released import cache
from harness.released.transfer import (
    STALL_BYTES,
    BrokenError,
    RefusedError,
    discard,
    size_of,
    transfer,
)

MIRROR = "DETBENCH_MIRROR"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ATTEMPTS = 3  # in a row that bring next to nothing, before an address is given up
OTHER_CACHE = f"name another folder in ${cache.CACHE}"


def get(
    release: Release,
    file: Path,
    on_progress: OnProgress = ignore,
    *,
    elsewhere: str = OTHER_CACHE,
) -> str:
    """Return the sha256 of a released file, which is downloaded unless it is here.

    Arguments are those of `fetch`.

    Raises:
        WeightsError: it cannot be had, or what is here is another file.
    """
    if os.path.isfile(file):
        on_progress(Progress("check", 0, 1, {}))
        return cache.checked(file, release)
    return fetch(release, file, on_progress, elsewhere=elsewhere)


def fetch(
    release: Release,
    file: Path,
    on_progress: OnProgress = ignore,
    *,
    elsewhere: str = OTHER_CACHE,
) -> str:
    """Download a released file and return its sha256.

    What a broken transfer has brought stays in `partial_of(file)` and is gone on from. A process
    that wants a file which another one fetches waits for that one.

    Args:
        release: from where, and what it has to be.
        file: where it goes.
        on_progress: phase `download`, in bytes; `check` of the hash; `wait` for another process.
        elsewhere: what a user does where the file cannot be written, in words.

    Raises:
        WeightsError: no address has the file, or it cannot be written.
    """
    partial = partial_of(file)
    tried = []
    with written(file, elsewhere), alone(file, on_progress):
        if file.is_file():  # which another process has brought meanwhile
            return cache.checked(file, release)
        for url in addresses(release.url):
            try:
                found = _bring(url, release, file, partial, on_progress)
            except (BrokenError, RefusedError) as error:
                tried.append(masked(f"{url} ({error})", url))
                continue
            partial.replace(file)
            discard(partial)
            cache.note(file, found)
            return found
    kept = size_of(partial)
    more = f"; {kept / 1e6:.1f} MB of it are kept, and gone on from next time" if kept else ""
    raise WeightsError(
        f"cannot fetch {', '.join(tried)}{more}; get {release.url} where there is a network and"
        f" put it at {file}, or name a mirror in ${MIRROR}"
    )


def partial_of(file: Path) -> Path:
    """Return where a file grows until it is whole."""
    return file.with_name(f"{file.name}.part")


def addresses(url: str) -> list[str]:
    """Return where a file may be had: mirrors, which hold it below its host, then upstream.

    `$DETBENCH_MIRROR` names mirrors, with spaces between: http, https or file.

    Raises:
        WeightsError: it names something else.
    """
    parts = urlsplit(url)
    below = f"/{cache.host(url)}{parts.path}"
    try:
        mirrors = [urlsplit(mirror) for mirror in os.environ.get(MIRROR, "").split()]
    except ValueError as error:
        raise WeightsError(f"${MIRROR}: names no address: {error}; mend it") from error
    found = [urlunsplit(base._replace(path=base.path.rstrip("/") + below)) for base in mirrors]
    return [*found, url]


def _bring(url: str, release: Release, file: Path, partial: Path, on_progress: OnProgress) -> str:
    """Fill the partial file from one address and return its sha256.

    What was begun before may be part of another file, so that is then fetched once more.

    Raises:
        BrokenError: the transfer broke off too often.
        RefusedError: the server does not have the file, or has another one.
    """
    while True:
        resumed = _persist(url, release, partial, on_progress)
        on_progress(Progress("check", 0, 1, {}))
        found = cache.digest(partial)
        problem = cache.unfit(partial) or cache.problem(found, file, release)
        if problem is None:
            return found
        discard(partial)
        if not resumed:
            raise RefusedError(f"is not the released file: {problem}")


def _persist(url: str, release: Release, partial: Path, on_progress: OnProgress) -> bool:
    """Go on with a transfer until it is whole; say whether it was begun before.

    Raises:
        BrokenError: several attempts brought next to nothing.
        RefusedError: the server does not have the file.
    """
    resumed, idle = size_of(partial) > 0, 0
    while True:
        before = size_of(partial)
        try:
            transfer(url, partial, known=release.sha256 is not None, on_progress=on_progress)
            return resumed
        except BrokenError:
            idle = 0 if size_of(partial) - before >= STALL_BYTES else idle + 1
            if idle >= ATTEMPTS:
                raise


@contextmanager
def written(file: Path, elsewhere: str) -> Iterator[None]:
    """Make the folder of a file; say in one line why it cannot be written.

    Raises:
        WeightsError: it cannot, or what is written in the block; it ends with `elsewhere`.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise WeightsError(
                f"{file}: no space left for it; free some, or {elsewhere}"
            ) from error
        raise WeightsError(
            f"{file}: cannot be written ({error.strerror or error}); {elsewhere}"
        ) from error


@contextmanager
def alone(file: Path, on_progress: OnProgress) -> Iterator[None]:
    """Keep out other processes that work on the same file; phase `wait` while one does."""
    lock = FileLock(file.with_name(f"{file.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_progress(Progress("wait", 0, 1, {}))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()

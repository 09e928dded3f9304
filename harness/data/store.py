"""Images in memory that all loading processes share, with a cap in bytes.

One block of memory is written around and around: what was written longest ago is written over.
Nothing is copied into any process, and nothing grows.
"""

from __future__ import annotations

import mmap
import multiprocessing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BUCKETS, WAYS = 1 << 13, 4  # of the table; each key has so many places
_KEY, _PLACE, _HEIGHT, _WIDTH = range(4)  # columns of the table
_HEAD, _HITS, _MISSES, _TOP = range(4)  # counters
_EMPTY = -1
_ODD = 0x9E3779B97F4A7C15  # spreads keys over the buckets
SHARE = 4  # an image larger than this part of the memory is not kept


class Held(NamedTuple):
    """An image in the store, good as long as `Store.intact` says so."""

    image: NDArray[np.uint8]  # [H, W, 3]
    place: int


class Store:
    """Images by key, shared by the processes forked from the one that made it.

    A process that does not share memory, since it was not forked, has a store of its own.
    """

    def __init__(self, limit: int) -> None:
        """Reserve address space; memory is taken as it is written.

        Args:
            limit: bytes of pixels at most; 0 keeps nothing.
        """
        self.limit = limit
        self._pixels = _shared(limit)
        self._table = _shared(BUCKETS * WAYS * 4 * 8).view(np.int64).reshape(BUCKETS, WAYS, 4)
        self._table[..., _KEY] = _EMPTY
        self._counts = _shared(4 * 8).view(np.int64)
        self._lock = multiprocessing.Lock()

    def __reduce__(self) -> tuple[type[Store], tuple[int]]:
        """Make a store of its own where this one is sent."""
        return Store, (self.limit,)

    def get(self, key: int) -> Held | None:
        """Return the image of a key if it is there."""
        with self._lock:
            for row in self._table[_bucket(key)].tolist():
                if row[_KEY] == key and self._holds(row[_PLACE]):
                    self._counts[_HITS] += 1
                    return Held(self._view(row[_PLACE], row[_HEIGHT], row[_WIDTH]), row[_PLACE])
            self._counts[_MISSES] += 1
        return None

    def reserve(self, height: int, width: int) -> Held | None:
        """Return room for an image, to be written and then published; None if it is too large."""
        size = height * width * 3
        if size * SHARE > self.limit:
            return None
        with self._lock:
            place = int(self._counts[_HEAD])
            if place % self.limit + size > self.limit:  # an image lies in one piece
                place += self.limit - place % self.limit
            self._counts[_HEAD] = place + size
            self._counts[_TOP] = max(self._counts[_TOP], place % self.limit + size)
        return Held(self._view(place, height, width), place)

    def publish(self, key: int, held: Held) -> None:
        """Let others find an image that has been written."""
        height, width = held.image.shape[:2]
        with self._lock:
            ways = self._table[_bucket(key)]
            same = np.flatnonzero(ways[:, _KEY] == key)
            way = int(same[0]) if len(same) else int(ways[:, _PLACE].argmin())
            ways[way] = key, held.place, height, width

    def intact(self, held: Held) -> bool:
        """Say whether an image has not been written over since it was returned."""
        return self._holds(held.place)

    def stats(self) -> dict[str, int]:
        """Return the bytes in use, and how often an image was there and was not."""
        counts = self._counts.tolist()
        return {"bytes": counts[_TOP], "hits": counts[_HITS], "misses": counts[_MISSES]}

    def _holds(self, place: int) -> bool:
        return bool(self._counts[_HEAD] - place <= self.limit)

    def _view(self, place: int, height: int, width: int) -> NDArray[np.uint8]:
        start = place % self.limit
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)


def _bucket(key: int) -> int:
    return (key * _ODD & 0xFFFFFFFFFFFFFFFF) >> 51  # the upper 13 bits


def _shared(size: int) -> NDArray[np.uint8]:
    """Return bytes that forked processes share; they need no file and no name."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]

"""The shared store: what was written comes back, or nothing does, and the cap holds."""

import multiprocessing
import pickle

import numpy as np
import pytest

from harness.data.store import Store


def put(store: Store, key: int, image: np.ndarray) -> None:
    held = store.reserve(*image.shape[:2])
    assert held is not None
    held.image[:] = image
    store.publish(key, held)


def image(value: int, height: int = 10, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_what_was_written_comes_back_until_it_is_written_over() -> None:
    store = Store(limit=1000)  # four images of 240 bytes
    for key in range(4):
        put(store, key, image(key))
    kept = [store.get(key) for key in range(4)]
    assert all(held is not None and (held.image == k).all() for k, held in enumerate(kept))
    put(store, 4, image(4))
    assert store.get(0) is None
    assert kept[0] is not None
    assert not store.intact(kept[0])
    assert store.get(1) is not None
    assert store.stats() == {"bytes": 960, "hits": 5, "misses": 1}


def test_images_of_all_sizes_lie_in_one_piece_below_the_cap() -> None:
    store, rng = Store(limit=20_000), np.random.default_rng(0)
    for key in range(500):
        height, width = rng.integers(1, 40, 2)
        put(store, key, image(key % 256, height, width))
        for other in range(max(0, key - 30), key + 1):
            held = store.get(other)
            assert held is None or (held.image == other % 256).all()
        assert store.get(key) is not None
    assert 15_000 < store.stats()["bytes"] <= 20_000


def test_a_key_written_again_holds_the_later_image() -> None:
    store = Store(limit=10_000)
    put(store, -7, image(1))
    put(store, -7, image(2, 4, 4))
    held = store.get(-7)
    assert held is not None
    assert held.image.shape == (4, 4, 3)
    assert (held.image == 2).all()


@pytest.mark.parametrize("limit", [0, 900])
def test_what_is_too_large_is_not_kept(limit: int) -> None:
    store = Store(limit)
    assert store.reserve(10, 8) is None
    assert store.get(0) is None


def _fill(store: Store, first: int) -> None:
    for key in range(first, first + 200):
        put(store, key, image(key % 251))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_forked_processes_share_and_others_do_not() -> None:
    store = Store(limit=1 << 20)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_fill, args=(store, first)) for first in (0, 1000, 2000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for first in (0, 1000, 2000):
        for key in range(first, first + 200):
            held = store.get(key)
            assert held is not None
            assert (held.image == key % 251).all()
    assert pickle.loads(pickle.dumps(store)).get(0) is None

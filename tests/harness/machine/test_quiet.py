import gc

import pytest
import torch

from harness.machine.quiet import uncollected, with_threads


@pytest.mark.parametrize("collecting", [True, False])
def test_nothing_is_collected_in_a_quiet_block_and_afterwards_as_before(collecting):
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()


def test_threads_are_set_for_a_block_and_put_back_also_after_an_error(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    with with_threads(3):
        assert asked == [3]
    with with_threads(None):
        pass
    with pytest.raises(KeyError), with_threads(2):
        raise KeyError
    assert asked == [3, 5, 5, 5, 2, 5]

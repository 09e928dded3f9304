"""Memory of a training: how much it took, and how a step that ran out of it begins anew."""

from __future__ import annotations

import random
import resource
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

RandomState = dict[str, Any]


def ran_out(error: BaseException) -> bool:
    """Say whether memory ran out; torch's CPU allocator has no exception class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text
    )


def peak_bytes(device: torch.device) -> int:
    """Return the most memory in use at a time: of a GPU by tensors, else by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def random_state(device: torch.device) -> RandomState:
    """Return the state of every random generator, in what `torch.load` reads without pickle."""
    version, words, gauss = random.getstate()
    kind, key, *rest = np.random.get_state(legacy=True)
    state = {
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(key).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Put every random generator back into a state."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, key, *rest = state["numpy"]
    np.random.set_state((kind, key.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


class Snapshot:
    """What a forward pass changes beside gradients: random generators, and statistics of norms."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self._buffers = list(model.buffers())
        self._values = [buffer.clone() for buffer in self._buffers]
        self.random = random_state(device)

    def take(self) -> None:
        """Remember how things are."""
        if self._buffers:
            torch._foreach_copy_(self._values, self._buffers)
        self.random = random_state(self._device)

    def restore(self) -> None:
        """Put things back to how they were."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._values)
        set_random_state(self.random, self._device)

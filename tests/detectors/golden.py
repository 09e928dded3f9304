"""Golden values of the reference implementations, and the weights and inputs behind them."""

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.golden.detweights import state_dict_from_spec
from tests.golden.golden_inputs import make_image

FOLDER = Path(__file__).parents[1] / "golden"
NORM = {
    "weight": "float32",
    "bias": "float32",
    "running_mean": "float32",
    "running_var": "float32",
    "num_batches_tracked": "int64",
}


@cache
def read_json(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text())


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as content:
        return dict(content)


def entries(layers: dict[str, list[int]]) -> list[tuple[str, list[int], str]]:
    """Return key, shape and type of every tensor of upstream's state dict."""
    found = []
    for pattern, shape in layers.items():
        for key in expand(pattern):
            if key.endswith((".bn", ":norm", ":frozen")):
                found += norm(key, shape)
            else:
                found.append((key, shape, "float32"))
    return found


def expand(pattern: str) -> list[str]:
    """Return the keys that a pattern with ranges such as `{0-3}` stands for."""
    braces = re.search(r"\{(\d+)-(\d+)\}", pattern)
    if braces is None:
        return [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    numbers = range(int(braces[1]), int(braces[2]) + 1)
    return [key for number in numbers for key in expand(f"{before}{number}{after}")]


def norm(key: str, shape: list[int]) -> list[tuple[str, list[int], str]]:
    """Return the entries of a normalisation; a frozen one has no counter of batches."""
    prefix, _, kind = key.partition(":")
    return [
        (f"{prefix}.{part}", shape if dtype == "float32" else [], dtype)
        for part, dtype in NORM.items()
        if kind != "frozen" or dtype == "float32"
    ]


def spec(name: str) -> dict[str, Any]:
    """Return what is known of an upstream model: `rtmdet_s`, `rtdetr_r18vd`, `hf_hgnet_l` ..."""
    file = "rtmdet.json" if name.startswith("rtmdet") else "rtdetr.json"
    found: dict[str, Any] = read_json(file)[name]
    return found


@cache
def upstream_weights(name: str) -> dict[str, Tensor]:
    """Return the generated weights of a model under upstream's keys."""
    known = spec(name)
    filled = state_dict_from_spec(entries(known["layers"]))
    assert len(filled) == known["entries"]
    floats = [value for value in filled.values() if value.dtype == np.float32]
    total = sum(float(value.sum(dtype=np.float64)) for value in floats)
    assert abs(total - known["weights_check"]["sum"]) < 1e-3
    return {key: torch.from_numpy(np.array(value)) for key, value in filled.items()}


def image(known: dict[str, Any]) -> Tensor:
    """Return the input that a golden file names."""
    made = make_image(*(known[key] for key in ("seed", "batch", "height", "width", "kind")))
    if "sha256" in known:
        assert hashlib.sha256(made.tobytes()).hexdigest() == known["sha256"]
    return torch.from_numpy(made)

"""Golden values of the reference implementations, and the weights and inputs behind them."""

import hashlib
import json
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
    for key, shape in layers.items():
        if key.endswith(".bn"):
            for part, kind in NORM.items():
                found.append((f"{key}.{part}", shape if kind == "float32" else [], kind))
        else:
            found.append((key, shape, "float32"))
    return found


@cache
def upstream_weights(name: str) -> dict[str, Tensor]:
    """Return the generated weights of an RTMDet under mmdetection's keys."""
    spec = read_json("rtmdet.json")[name]
    filled = state_dict_from_spec(entries(spec["layers"]))
    assert len(filled) == spec["entries"]
    floats = [value for value in filled.values() if value.dtype == np.float32]
    total = sum(float(value.sum(dtype=np.float64)) for value in floats)
    assert abs(total - spec["weights_check"]["sum"]) < 1e-3
    return {key: torch.from_numpy(np.array(value)) for key, value in filled.items()}


def image(spec: dict[str, Any]) -> Tensor:
    """Return the input that a golden file names."""
    made = make_image(*(spec[key] for key in ("seed", "batch", "height", "width", "kind")))
    if "sha256" in spec:
        assert hashlib.sha256(made.tobytes()).hexdigest() == spec["sha256"]
    return torch.from_numpy(made)

"""Golden values of the reference implementations, and the weights and inputs behind them."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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


class Tolerance(NamedTuple):
    """How far our values may be from a reference's, where only rounding sets them apart."""

    logits: float
    boxes: float  # of RT-DETR as shares of the input, of RTMDet in pixels


# References and detectors compute in float32. Their kernels differ with instruction set and number
# of threads, so they add in another order, and a network enlarges the difference. See README.md
# beside the golden values for what was measured; these are at least twice that.
TOLERANCES = {
    "rtdetr_r18vd": Tolerance(2e-4, 2e-5),
    "rtdetr_r34vd": Tolerance(2e-4, 2e-5),
    "rtdetr_r50vd_m": Tolerance(4e-4, 4e-5),
    "rtdetr_r50vd": Tolerance(4e-4, 4e-5),
    "rtdetr_r101vd": Tolerance(2e-3, 1e-4),
    "hf_r18": Tolerance(2e-4, 2e-5),
    "hf_hgnet_l": Tolerance(1.2e-2, 4e-4),  # of the last layer; half as much in each before
    "hf_hgnet_x": Tolerance(2e-1, 6e-3),
    "rtmdet_tiny": Tolerance(1e-4, 1e-3),
    "rtmdet_s": Tolerance(1e-4, 1e-3),
    "rtmdet_m": Tolerance(3e-4, 3e-2),  # from here on decoding is exponential and enlarges it
    "rtmdet_l": Tolerance(3e-4, 3e-2),
    "rtmdet_x": Tolerance(3e-4, 3e-2),
}
SCORES = 1e-4  # of the tokens that RT-DETR selects from, before sigmoid
LOSSES = 1e-4  # relative; of a whole model
GRADIENTS = {"rtdetr": 1.5e-3, "rtmdet": 1e-4}  # norms, relative, and absolute below 1 and 0.1
STATISTICS = {"rtol": 1e-4, "atol": 1e-5}  # of batches, after one step
SUMS = 1e-6  # relative; of losses of given predictions, up to 48,000 terms
FEW_STEPS = 4 * 2.0**-23  # relative to 1 + |x|; of a logarithm and three operations before it


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
    if "sum" in known:  # no hash: numpy's and the C library's last bits are the processor's
        assert abs(made.sum(dtype=np.float64) - known["sum"]) < 1e-3
        assert abs(np.square(made, dtype=np.float64).sum() - known["square_sum"]) < 1e-3
    return torch.from_numpy(made)


def assert_few_steps(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Compare what few operations compute from equal inputs: to the last bits, not bit by bit."""
    np.testing.assert_allclose(ours, theirs, rtol=FEW_STEPS, atol=FEW_STEPS)

"""Counts by other people's conventions, against modules worked out by hand and the reference's."""

from functools import cache
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import detectors
from harness.measure import complexity
from harness.measure.complexity import conventions
from tests import lanes

CASES: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "conv": (nn.Conv2d(8, 16, 3, 2, 1, bias=False), (1, 8, 20, 20), 10 * 10 * 16 * 8 * 9),
    "conv with bias": (nn.Conv2d(8, 16, 3, padding=1), (1, 8, 20, 20), 20 * 20 * 16 * (8 * 9 + 1)),
    "grouped": (nn.Conv2d(8, 16, 3, groups=4, bias=False), (2, 8, 12, 12), 2 * 100 * 16 * 2 * 9),
    "linear": (nn.Linear(32, 64), (1, 10, 32), 10 * 64 * 32),
    "norm": (nn.BatchNorm2d(8).eval(), (1, 8, 20, 20), 2 * 8 * 20 * 20),
    "frozen norm": (FrozenBatchNorm2d(8), (1, 8, 20, 20), 2 * 8 * 20 * 20),
    "pool": (nn.AvgPool2d(2), (1, 8, 20, 20), 8 * 10 * 10),
    "global pool": (nn.AdaptiveAvgPool2d(1), (1, 8, 20, 20), 8 * (20 * 20 + 1)),
    "free": (nn.Sequential(nn.LayerNorm(20), nn.GELU(), nn.MaxPool2d(2)), (1, 8, 20, 20), 0),
    # 400 x (256 x 256 out of attention + 2 x 256 x 1024); neither what leads in nor its products.
    "attention": (
        nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True),
        (1, 400, 256),
        400 * 256 * (256 + 2 * 1024),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_closed_forms(case: str) -> None:
    layer, shape, expected = CASES[case]
    layer.train()  # torch's fused kernels would call no module
    with conventions.counting(layer) as counts:
        layer(torch.zeros(shape))
    assert counts["paddle"] == expected


BLOCK = nn.Sequential(
    nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU(),
    nn.Conv2d(16, 4, 1), nn.Hardsigmoid(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2),
)  # fmt: skip


def test_modules_in_the_manner_of_ptflops() -> None:
    cells = 10 * 10
    products, bias = cells * (16 * 8 * 9 + 4 * 16), cells * 4
    norm, activation = 2 * cells * 16, cells * 16
    pooled, enlarged = cells * 4, cells * 4
    for device in ("cpu", "meta"):
        with torch.device(device), conventions.counting(BLOCK.to(device)) as counts:
            BLOCK(torch.zeros(1, 8, 10, 10))
        assert counts["ptflops"] == products + bias + norm + activation + pooled + enlarged


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.fc = nn.Sequential(nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10))

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.features(x).flatten(1))


def test_the_example_of_the_documentation_of_paddle() -> None:
    model = LeNet()
    with conventions.counting(model) as counts:
        model(torch.zeros(1, 1, 28, 28))
    assert counts["paddle"] == 47040 + 241600 + 48000 + 10080 + 840 == 347560


def test_a_module_counts_as_often_as_it_is_called_and_only_inside() -> None:
    layer = nn.Linear(4, 4)
    x = torch.zeros(1, 4)
    with conventions.counting(nn.ModuleList([layer, layer])) as counts:
        layer(x)
        layer(layer(x))
    layer(x)
    assert counts["paddle"] == 3 * 16
    assert not layer._forward_hooks


class Reference(NamedTuple):
    """What was counted of the reference at 640x640."""

    params: int
    params_fused: int  # without unused layers and denoising, norms in convolutions
    paddle: int
    torch: int  # FLOPs, without the products of attention
    torch_deployed: int  # the same with RepVGG blocks fused
    layers: int  # of the decoder, those that run
    width: int = 256  # of the encoder
    scored: int = 1  # layers whose classes are computed; Hugging Face's model does so in all


RTDETR = {
    "rtdetr_r18": Reference(
        20184464, 19952976, 30362009600, 61047398400, 60064358400, layers=3
    ),
    "rtdetr_r34": Reference(
        31441668, 31206468, 46330777600, 93061939200, 92078899200, layers=4
    ),
    "rtdetr_r50_m": Reference(
        36593772, 32946704, 50057728000, 100159283200, 99176243200, layers=3
    ),
    "rtdetr_r50": Reference(
        42891372, 42097004, 68348108800, 137063219200, 133131059200, layers=6
    ),
    "rtdetr_r101": Reference(
        76556268, 74798444, 129711820800, 259772825600, 250925465600, layers=6, width=384
    ),
    "rtdetr_hgnetv2_l": Reference(
        32925036, 32126892, 55238758400, 111020646400, 107088486400, layers=6, scored=6
    ),
    "rtdetr_hgnetv2_x": Reference(
        67374188, 65610588, 117343539200, 235232870400, 226385510400, layers=6, width=384,
        scored=6,
    ),
}  # fmt: skip
TOKENS, QUERIES = 80**2 + 40**2 + 20**2, 300


@cache
def counted(name: str) -> complexity.Complexity:
    """Count without the second counter, which computes, and which test_complexity.py looks at."""
    agrees = {"relative_difference": 0.0}
    with torch.device("meta"), mock.patch.object(complexity, "cross_check", return_value=agrees):
        return complexity.count(detectors.create(name), (640, 640))


def needless(reference: Reference) -> int:
    """Return the MACs of classifiers whose scores are not used."""
    return (reference.scored - 1) * QUERIES * 256 * 80


def macs(torch_flops: int, reference: Reference) -> int:
    """Add the products of attention, queries with keys and weights with values."""
    encoder = 2 * (20**2) ** 2 * reference.width
    decoder = reference.layers * 2 * QUERIES**2 * 256
    return torch_flops // 2 + encoder + decoder - needless(reference)


KINDS = lanes.split(RTDETR, ("rtdetr_r18", "rtdetr_r50", "rtdetr_hgnetv2_l"))


@pytest.mark.parametrize("name", KINDS)
def test_modules_of_rtdetr_count_as_in_paddle(name: str) -> None:
    count = counted(name).details["training"]["conventions"]["paddle"]
    assert count == RTDETR[name].paddle - needless(RTDETR[name])


@pytest.mark.parametrize("name", KINDS)
def test_parameters_and_macs_are_those_of_the_reference(name: str) -> None:
    metrics, reference = counted(name).metrics, RTDETR[name]
    assert metrics["params"] == reference.params
    assert metrics["macs"] == macs(reference.torch, reference)
    # Deployed, only the boxes of the selected tokens go through the three layers of their MLP, and
    # only the last layer has a classifier, the one that runs.
    box, classifier = 256 * 256 + 256 * 256 + 256 * 4, 256 * 80 + 80
    saved = (TOKENS - QUERIES) * box
    assert metrics["macs_deployed"] == macs(reference.torch_deployed, reference) - saved
    unused = (reference.layers - 1) * classifier
    assert metrics["params_deployed"] == reference.params_fused - unused


@pytest.mark.parametrize("name", KINDS)
def test_every_operator_of_rtdetr_is_known(name: str) -> None:
    details = counted(name).details
    for graph in ("training", "deployed"):
        assert details[graph]["not_counted"]["unknown"] == {}


RTMDET = {
    "rtmdet_tiny": (8089002240, 8114783760),
    "rtmdet_s": (14834933760, 14870917120),
    "rtmdet_m": (39205493760, 39272940000),
    "rtmdet_l": (80120995840, 80229120960),
    "rtmdet_x": (141513600000, 141671620000),
}
"""Counts of the reference: by mmengine (test_complexity.py has ours), and by modules."""


@pytest.mark.parametrize("name", lanes.split(RTMDET, ("rtmdet_tiny",)))
def test_modules_of_rtmdet_count_as_in_the_reference(name: str) -> None:
    assert counted(name).details["training"]["conventions"]["ptflops"] == RTMDET[name][1]

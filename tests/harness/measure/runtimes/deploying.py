"""Detectors that are small, predict something, and fit a test of runtimes or of export."""

from functools import cache

import torch
from torch import nn

import detectors
from detectors.interface import Detector
from harness.measure.inputs import Inputs

SIZE = (64, 96)
SMALL = {
    "tests.toy:TOY": {},
    "rtmdet_tiny": {"backbone.width_mult": 0.25, "num_classes": 5},
    "rtdetr_r18": {
        "neck.hidden_dim": 32,
        "neck.feedforward_dim": 64,
        "head.hidden_dim": 32,
        "head.feedforward_dim": 64,
        "head.num_layers": 2,
        "head.num_queries": 40,
        "num_classes": 5,
    },
}


@cache
def detector(name: str) -> Detector:
    """Return a small detector whose predictions differ from image to image."""
    torch.manual_seed(0)
    model = detectors.create(name, {"input.size": SIZE, **SMALL[name]})
    for module in model.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.2)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    with torch.no_grad():
        for _ in range(20):  # gives normalisation statistics that keep the signal alive
            model.train()(torch.randn(2, 3, *SIZE))
    return model


@cache
def inputs(count: int = 2, batch_size: int = 1) -> tuple[Inputs, ...]:
    draw = torch.Generator().manual_seed(1)
    shape = (batch_size, 3, *SIZE)
    sizes = torch.tensor([SIZE] * batch_size)
    return tuple(Inputs(torch.randn(shape, generator=draw), sizes) for _ in range(count))

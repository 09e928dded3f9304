"""The optimiser of every detector: groups of parameters, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from harness.recipe import Recipe

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Return the learning rate of one optimiser step.

    The warm-up is linear and its last step has the full rate. The cosine would reach
    `lr_end` one step after the last.

    Args:
        step: 0 for the first.
        steps: of the whole training.
        recipe: lr, warmup_*, schedule, flat_until and lr_end.

    Source: github.com/open-mmlab/mmdetection configs/rtmdet/rtmdet_l_8xb32-300e_coco.py
    @08189919, `param_scheduler`.
    """
    return recipe.lr * _warmup(step, recipe) * _decay(step, steps, recipe)


def _warmup(step: int, recipe: Recipe) -> float:
    if step >= recipe.warmup_steps:
        return 1.0
    progress = step / max(recipe.warmup_steps - 1, 1)
    return recipe.warmup_start + (1.0 - recipe.warmup_start) * progress


def _decay(step: int, steps: int, recipe: Recipe) -> float:
    begin = recipe.flat_until * steps
    if recipe.schedule == "constant" or step <= begin:
        return 1.0
    progress = (step - begin) / (steps - begin)
    return recipe.lr_end + (1.0 - recipe.lr_end) * (1.0 + math.cos(math.pi * progress)) / 2


def param_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into those that decay and those that don't.

    Parameters of norms and biases don't. A parameter that several modules share is listed
    once, where it is met first. A group without parameters is left out.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter, spare in _parameters(model):
        (spared if spare else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _parameters(model: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yield every trainable parameter once, with whether it is spared from decay."""
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter, isinstance(module, NORMS) or name.endswith("bias")


def adamw(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Make the optimiser; `learning_rate` sets its rate before every step."""
    groups = param_groups(model, recipe.weight_decay)
    fused = recipe.precision != "fp16"  # a fused step unscales by itself, too late for clipping
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)

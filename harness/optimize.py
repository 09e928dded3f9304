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


def param_groups(
    model: nn.Module, weight_decay: float, backbone_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Split the trainable parameters by their decay and their share of the learning rate.

    Parameters of norms and biases don't decay. A parameter that several modules share is listed
    once, where it is met first. A group without parameters is left out.

    Args:
        model: may have a stage named `backbone`.
        weight_decay: of the parameters that decay.
        backbone_lr: share of the learning rate for the backbone; that of all others is 1.

    Returns:
        Groups for an optimiser, with `lr_share` in each, which `set_learning_rate` reads.
    """
    backbone = {id(parameter) for parameter in _backbone(model)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter, spare in _parameters(model):
        share = backbone_lr if id(parameter) in backbone else 1.0
        groups.setdefault((share, spare), []).append(parameter)
    return [
        {"params": groups[key], "weight_decay": 0.0 if key[1] else weight_decay, "lr_share": key[0]}
        for key in sorted(groups)
    ]


def _backbone(model: nn.Module) -> Iterator[nn.Parameter]:
    stage = getattr(model, "backbone", None)
    return stage.parameters() if isinstance(stage, nn.Module) else iter(())


def _parameters(model: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yield every trainable parameter once, with whether it is spared from decay."""
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter, isinstance(module, NORMS) or name.endswith("bias")


def adamw(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Make the optimiser; `set_learning_rate` has to come before every step."""
    groups = param_groups(model, recipe.weight_decay, recipe.backbone_lr)
    fused = recipe.precision != "fp16"  # a fused step unscales by itself, too late for clipping
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_share"]

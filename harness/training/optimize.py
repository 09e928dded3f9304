"""The optimiser of every detector: groups of parameters, and the learning rate of every step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from harness.config.recipe import Recipe, RecipeError

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)

NoDecay = Literal["norm_bias", "none"] | tuple[str, ...]


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Return the learning rate of one optimiser step.

    The warm-up is linear, its last step has the full rate, and it multiplies the schedule. A cosine
    would reach `lr_end` one step after the last.

    Args:
        step: 0 for the first.
        steps: of the whole training.
        recipe: its rate, warm-up and schedule.

    Source: github.com/open-mmlab/mmdetection configs/rtmdet/rtmdet_l_8xb32-300e_coco.py
    @08189919, `param_scheduler`.
    """
    return recipe.scaled_lr * _warmup(step, recipe) * _decay(step, steps, recipe)


def _warmup(step: int, recipe: Recipe) -> float:
    if step >= recipe.warmup_steps:
        return 1.0
    progress = step / max(recipe.warmup_steps - 1, 1)
    return recipe.warmup_start + (1.0 - recipe.warmup_start) * progress


def _decay(step: int, steps: int, recipe: Recipe) -> float:
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        falls = sum(step >= round(share * steps) for share in recipe.step_at)
        return recipe.step_factor**falls
    begin = 0.0 if recipe.schedule == "cosine" else recipe.flat_until * steps
    if step <= begin:
        return 1.0
    progress = (step - begin) / (steps - begin)
    return recipe.lr_end + (1.0 - recipe.lr_end) * (1.0 + math.cos(math.pi * progress)) / 2


def param_groups(
    model: nn.Module,
    weight_decay: float,
    backbone_lr: float = 1.0,
    no_decay: NoDecay = "norm_bias",
) -> list[dict[str, Any]]:
    """Split the trainable parameters by their decay and their share of the learning rate.

    A parameter that several modules share is listed once, where it is met first. A group without
    parameters is left out.

    Args:
        model: may have a stage named `backbone`.
        weight_decay: of the parameters that decay.
        backbone_lr: share of the learning rate for the backbone; that of all others is 1.
        no_decay: which parameters don't decay, as in a recipe.

    Returns:
        Groups for an optimiser, with `lr_share` in each, which `set_learning_rate` reads.

    Raises:
        RecipeError: a regular expression of `no_decay` is in no parameter's name.
    """
    backbone = {id(parameter) for parameter in _backbone(model)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    spared = _spared(model, no_decay)
    for parameter in model.parameters():
        if parameter.requires_grad:
            share = backbone_lr if id(parameter) in backbone else 1.0
            groups.setdefault((share, id(parameter) in spared), []).append(parameter)
    return [
        {"params": groups[key], "weight_decay": 0.0 if key[1] else weight_decay, "lr_share": key[0]}
        for key in sorted(groups)
    ]


def _backbone(model: nn.Module) -> Iterator[nn.Parameter]:
    stage = getattr(model, "backbone", None)
    return stage.parameters() if isinstance(stage, nn.Module) else iter(())


def _spared(model: nn.Module, no_decay: NoDecay) -> set[int]:
    """Return the identities of the parameters that don't decay."""
    if no_decay == "none":
        return set()
    if no_decay == "norm_bias":
        return {
            id(parameter)
            for module in model.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if isinstance(module, NORMS) or name.endswith("bias")
        }
    spared: set[int] = set()
    for pattern in no_decay:
        found = {id(each) for name, each in model.named_parameters() if re.search(pattern, name)}
        if not found:
            raise RecipeError(f"recipe.no_decay: no parameter's name has {pattern!r} in it")
        spared |= found
    return spared


def make(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimiser; `set_learning_rate` has to come before every step.

    Raises:
        RecipeError: nothing learns, or whether the backbone starts from weights was not told.
    """
    if isinstance(recipe.backbone_lr, str):
        raise RecipeError("recipe.backbone_lr is auto here, where nobody knows of weights; set it")
    groups = param_groups(model, recipe.weight_decay, recipe.backbone_lr, recipe.no_decay)
    if not groups:
        raise RecipeError(
            f"recipe.frozen: {', '.join(recipe.frozen) or 'nothing'} is frozen, and nothing learns"
        )
    fused = recipe.precision != "fp16"  # a fused step unscales by itself, too late for clipping
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.scaled_lr, betas=recipe.betas, fused=fused)
    return torch.optim.SGD(
        groups,
        lr=recipe.scaled_lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=fused,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_share"]

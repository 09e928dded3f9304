"""The processes of a training: this one alone, or several that `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import distributed, nn

from harness.config.recipe import Recipe, RecipeError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import Precision

T = TypeVar("T")


class Device(NamedTuple):
    """Where and how a training computes."""

    fabric: Fabric  # moves tensors, chooses the arithmetic, joins gradients
    scaler: torch.amp.GradScaler | None  # of gradients, where the arithmetic needs one


def count() -> int:
    """Return how many processes `torchrun` started together with this one; else 1."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_first() -> bool:
    """Say whether this process is the one that writes files and shows progress."""
    return rank() == 0


def local(device: str) -> str:
    """Return the device of this process, where each process has one of a machine's GPUs."""
    if count() > 1 and device.startswith("cuda"):
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


def gather(value: T) -> list[T]:
    """Return what each process gave, in the order of ranks; all have to call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def launch(device: torch.device, recipe: Recipe) -> Device:
    """Take the device, and join the other processes if there are any.

    Raises:
        RecipeError: the recipe does not go with the device or the number of processes.
    """
    from lightning_fabric import Fabric  # slow to import, and only training needs it

    plugin, scaler = _precision(device, recipe)
    if count() == 1:
        alone: Any = 1 if device.type == "cpu" else [device.index or 0]
        return Device(Fabric(accelerator=device.type, devices=alone, plugins=plugin), scaler)
    if recipe.batch_size % (recipe.accumulate * count()):
        raise RecipeError(
            f"recipe.batch_size: {recipe.batch_size} images in {recipe.accumulate} micro-batches "
            f"cannot be dealt to {count()} processes evenly"
        )
    from lightning_fabric.strategies.ddp import DDPStrategy  # slow to import

    # An image without objects leaves parameters without gradients, those of denoising for example.
    strategy = DDPStrategy(
        process_group_backend="gloo" if device.type == "cpu" else "nccl",
        find_unused_parameters=True,
    )
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    fabric = Fabric(
        accelerator=device.type,
        devices=here,
        num_nodes=count() // here,
        strategy=strategy,
        plugins=plugin,
    )
    fabric.launch()
    return Device(fabric, scaler)


def _precision(
    device: torch.device, recipe: Recipe
) -> tuple[Precision, torch.amp.GradScaler | None]:
    from lightning_fabric.plugins import MixedPrecision, Precision  # slow to import

    if recipe.precision == "fp32":
        return Precision(), None
    if recipe.precision == "bf16":
        return MixedPrecision("bf16-mixed", device.type), None
    if device.type == "cpu":
        raise RecipeError("recipe.precision: fp16 needs a GPU; use bf16 or fp32 on the cpu")
    scaler = torch.amp.GradScaler(device.type)
    return MixedPrecision("16-mixed", device.type, scaler), scaler


def join_norms(model: nn.Module) -> Callable[[], None]:
    """Let batch norms see the images of all processes, in place.

    Parameters and statistics stay the same tensors.

    Returns:
        What puts the model's own norms back.
    """
    plain = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.modules.batchnorm._BatchNorm)
    ]
    nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]

    def part() -> None:
        for parent, name, child in plain:
            setattr(parent, name, child.train(parent.training))

    return part

"""RTMDet's layers in the order of the graph that upstream exports for inference."""

from __future__ import annotations

from torch import nn


def exported_convolutions(model: nn.Module, stacked_convs: int) -> list[str]:
    """Return the names of the convolutions in the order in which upstream's graph runs them.

    Upstream runs the short branch of a CSP layer before the main one, and the head level by level.

    Args:
        model: an RTMDet whose levels share nothing of the head.
        stacked_convs: in front of each predictor.
    """
    steps = ["backbone."]
    steps += [f"neck.{part}.{level}." for level in (1, 0) for part in ("reduce", "top_down")]
    steps += [f"neck.{part}.{level}." for level in (0, 1) for part in ("downsample", "bottom_up")]
    steps += ["neck.out."]
    for level in range(3):
        for tower in ("head.classify", "head.regress"):
            steps += [f"{tower}.convs.{index}.{level}." for index in range(stacked_convs)]
            steps += [f"{tower}.predict.{level}"]
    known = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
    order = [name for step in steps for name in known if name.startswith(step)]
    for index in [at for at, name in enumerate(order) if name.endswith(".main.conv")]:
        order[index : index + 2] = order[index + 1], order[index]
    return order

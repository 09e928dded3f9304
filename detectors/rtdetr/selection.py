"""Query selection: the most promising cells of the pyramid become the decoder's queries."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from detectors.boxes import inverse_sigmoid
from detectors.layers import start_with_rare_classes
from detectors.rtdetr.attention import Sizes
from detectors.rtdetr.decoder import MLP, start_without_moving

ANCHOR_SIDE = 0.05  # of a finest cell's anchor, share of the input; doubles from level to level
MARGIN = 0.01  # an anchor nearer to 0 or 1 in any of its four numbers is not used
FAR = 1e4  # before the sigmoid: any box prediction added to it leaves 1 after it


class Selected(NamedTuple):
    """The Q cells with the best class scores, best first."""

    content: Tensor  # [B, Q, D]
    logits: Tensor  # [B, Q, C], before sigmoid
    boxes: Tensor  # [B, Q, 4] cxcywh, shares of the input's width and height; float32


class QuerySelection(nn.Module):
    """Classify every cell and choose the best, whose boxes start from anchors.

    Source: RT-DETR, arXiv:2304.08069v3, sec. 4.3, after Deformable DETR's two stages;
    lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/rtdetr_decoder.py (Apache-2.0).
    Differs: the number before the sigmoid of an unused anchor is finite; its box is 1 all the same.
    """

    def __init__(self, hidden_dim: int, num_classes: int) -> None:
        super().__init__()
        project = nn.Linear(hidden_dim, hidden_dim)
        self.project = nn.Sequential(project, nn.LayerNorm(hidden_dim))
        self.score = nn.Linear(hidden_dim, num_classes)
        self.box = MLP(hidden_dim, hidden_dim, 4, 3)
        nn.init.xavier_uniform_(project.weight)
        start_with_rare_classes(self.score)
        start_without_moving(self.box)

    def forward(
        self, memory: Tensor, sizes: Sizes, num_queries: int, *, every_box: bool
    ) -> Selected:
        """Select cells.

        Args:
            memory: [B, N, D], levels fine to coarse, row-major.
            sizes: of the levels.
            num_queries: how many to select; all cells if there are fewer.
            every_box: whether boxes are computed before the selection, for all cells, which is
                what the published counts of operations hold; otherwise for the selected ones.
        """
        anchors, usable = make_anchors(sizes, memory.device)
        tokens = self.project(memory * usable[:, None].to(memory.dtype))
        logits = self.score(tokens)
        index = logits.amax(-1).topk(min(num_queries, logits.shape[1])).indices
        content = _take(tokens, index)
        if every_box:
            boxes = _take(self.box(tokens).float() + anchors, index)
        else:
            boxes = self.box(content).float() + anchors[index]
        return Selected(content, _take(logits, index), boxes.sigmoid())


def make_anchors(sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a box around the centre of every cell, which doubles in size from level to level.

    Args:
        sizes: of the levels, fine to coarse.
        device: where the tensors are made.

    Returns:
        anchors: [N, 4] cxcywh, shares of the input's width and height, before sigmoid; `FAR` where
            the anchor is not used; float32.
        usable: [N] bool.
    """
    levels = []
    for level, (height, width) in enumerate(sizes):
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        side = torch.full_like(rows, ANCHOR_SIDE * 2**level)
        levels.append(torch.stack((columns, rows, side, side), dim=-1).flatten(0, 1))
    anchors = torch.cat(levels)
    usable = ((anchors > MARGIN) & (anchors < 1 - MARGIN)).all(-1)
    return torch.where(usable[:, None], inverse_sigmoid(anchors), FAR), usable


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Return rows [B, Q, D] of values [B, N, D] by index [B, Q]."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))

"""What RT-DETR's decoder is made of: its layers, and the steps that refine boxes."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from detectors.boxes import inverse_sigmoid
from detectors.rtdetr.attention import DeformableAttention, Sizes


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        pairs = zip(dims, dims[1:], strict=False)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in_dim] to [..., out_dim]."""
        for layer in self.layers[:-1]:
            x = layer(x).relu_()
        y: Tensor = self.layers[-1](x)
        return y


class DecoderLayer(nn.Module):
    """Let queries look at each other, then at the memory, then think; normalise after each.

    Args:
        hidden_dim: of queries and memory.
        num_heads: of both attentions.
        num_levels: of the memory.
        num_points: that a head reads in each level.
        feedforward_dim: width between the two last linear layers.
        dropout: share of values that training leaves out, after each step and inside.

    Source: DETR, arXiv:2005.12872, fig. 10, with the cross-attention of Deformable DETR,
    arXiv:2010.04159; lyuwenyu/RT-DETR@068dfde
    rtdetr_pytorch/src/zoo/rtdetr/rtdetr_decoder.py (Apache-2.0).
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        num_levels: int,
        *,
        num_points: int,
        feedforward_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(hidden_dim, num_heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(hidden_dim)
        self.cross_attn = DeformableAttention(hidden_dim, num_heads, num_levels, num_points)
        self.norm2 = nn.LayerNorm(hidden_dim)
        self.linear1 = nn.Linear(hidden_dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, hidden_dim)
        self.norm3 = nn.LayerNorm(hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        boxes: Tensor,
        memory: Tensor,
        sizes: Sizes,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Update queries.

        Args:
            queries: [B, Q, D].
            position: [B, Q, D], added to the queries wherever they are compared.
            boxes: [B, Q, 4] cxcywh, shares of the input's width and height; float32.
            memory: [B, N, D], levels fine to coarse, row-major.
            sizes: of the levels.
            mask: [Q, Q] bool, true where the query of the row must not see that of the column.

        Returns:
            [B, Q, D].
        """
        keys = queries + position
        seen, _ = self.self_attn(keys, keys, queries, attn_mask=mask, need_weights=False)
        queries = self.norm1(queries + self.dropout(seen))
        seen = self.cross_attn(queries + position, boxes, memory, sizes)
        queries = self.norm2(queries + self.dropout(seen))
        thought = self.linear2(self.dropout(self.linear1(queries).relu_()))
        updated: Tensor = self.norm3(queries + self.dropout(thought))
        return updated


def refine(boxes: Tensor, moves: Tensor) -> Tensor:
    """Move boxes, before the sigmoid.

    Args:
        boxes: [B, Q, 4] cxcywh, shares of the input's width and height; float32.
        moves: [B, Q, 4], added to what the sigmoid maps to the boxes.

    Returns:
        [B, Q, 4] like `boxes`.

    Source: Deformable DETR, arXiv:2010.04159, A.4.
    """
    return (inverse_sigmoid(boxes) + moves.float()).sigmoid()


def start_without_moving(box: MLP) -> None:
    """Start with boxes that stay where they are."""
    last = cast(nn.Linear, box.layers[-1])
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)

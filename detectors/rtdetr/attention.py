"""Multi-scale deformable attention: every query looks at a few points of every level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

Sizes = list[tuple[int, int]]  # (h, w) of each level, cells


class DeformableAttention(nn.Module):
    """Read a memory at points around each query's box, which the query itself chooses and weighs.

    Args:
        hidden_dim: of queries and memory, a multiple of `num_heads`.
        num_heads: of attention, each with points and with channels of its own.
        num_levels: of the memory.
        num_points: that each head reads in each level.

    Source: Deformable DETR, arXiv:2010.04159, sec. 4.1 and A.2 to A.4; lyuwenyu/RT-DETR@068dfde
    rtdetr_pytorch/src/zoo/rtdetr/rtdetr_decoder.py (Apache-2.0), equal in numbers
    (tests/detectors/test_rtdetr_golden.py).
    Differs: once fused, on a CPU, it projects what was read instead of the whole memory, which is
    equal, since both are linear, and takes far fewer operations.
    """

    def __init__(self, hidden_dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = num_heads, num_levels, num_points
        self.deployed = False
        places = num_heads * num_levels * num_points
        self.offsets = nn.Linear(hidden_dim, places * 2)
        self.weights = nn.Linear(hidden_dim, places)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)
        self._initialise()

    def forward(self, queries: Tensor, boxes: Tensor, memory: Tensor, sizes: Sizes) -> Tensor:
        """Gather what each query looks for.

        Args:
            queries: [B, Q, D], position included.
            boxes: [B, Q, 4] cxcywh, shares of the input's width and height; in the type that
                places are computed in.
            memory: [B, N, D], levels fine to coarse, row-major.
            sizes: of the levels.

        Returns:
            [B, Q, D].
        """
        locations, weights = self._look(queries, boxes)
        if self.deployed and reads_corners(memory, locations):
            read = self._project(*read_corners(memory, sizes, locations, weights))
        else:
            values = torch.unflatten(self.value(memory), -1, (self.heads, -1))
            read = read_maps(values.to(boxes.dtype), sizes, locations, weights)
        gathered: Tensor = self.output(read.flatten(2).to(queries.dtype))
        return gathered

    def fuse(self) -> DeformableAttention:
        """Return itself, free to read in the order that is faster on the device."""
        self.deployed = True
        return self

    def _look(self, queries: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return where each head looks, as shares [B, Q, H, L, P, 2], and weights [B, Q, H, L, P].

        A point's offset is in units of half the box, divided by the number of points.
        """
        shape = (*queries.shape[:2], self.heads, self.levels, self.points)
        offsets = self.offsets(queries).to(boxes.dtype).reshape(*shape, 2)
        weights = self.weights(queries).reshape(*shape[:3], -1).softmax(-1, dtype=boxes.dtype)
        centres, sides = boxes[:, :, None, None, None].chunk(2, dim=-1)
        return centres + offsets * (sides * (0.5 / self.points)), weights.reshape(shape)

    def _project(self, read: Tensor, total: Tensor) -> Tensor:
        """Apply each head's share of the projection to what it read.

        Args:
            read: [B, Q, H, D], weighted sums of the memory.
            total: [B, Q, H], sums of the weights, which the bias is multiplied by.

        Returns:
            [B, Q, H, D / H].
        """
        weight = self.value.weight.reshape(self.heads, -1, read.shape[-1])  # [H, D / H, D]
        values = torch.bmm(read.flatten(0, 1).transpose(0, 1), weight.mT)  # [H, B * Q, D / H]
        bias = self.value.bias.reshape(self.heads, -1)
        return values.transpose(0, 1).reshape(*total.shape, -1) + total[..., None] * bias

    def _initialise(self) -> None:
        """Look from the centre in as many directions as there are heads, each point a step further.

        Source: Deformable DETR, arXiv:2010.04159, A.4.
        """
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ring = torch.stack((angles.cos(), angles.sin()), dim=-1)
        ring = ring / ring.abs().amax(-1, keepdim=True)  # onto the square around the circle
        steps = torch.arange(1, self.points + 1)[:, None]
        bias = (ring[:, None, None] * steps).expand(-1, self.levels, -1, -1)
        with torch.no_grad():
            self.offsets.bias.copy_(bias.flatten())
        for zero in (self.offsets.weight, self.weights.weight, self.weights.bias):
            nn.init.zeros_(zero)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)


def reads_corners(memory: Tensor, locations: Tensor) -> bool:
    """Tell whether `read_corners` is to take the place of `read_maps`.

    It is faster on a CPU, but neither in training nor compiled, and exported graphs are larger.
    """
    plain = not (memory.requires_grad or torch.compiler.is_compiling())
    return plain and memory.device.type == "cpu" and memory.dtype == locations.dtype


def read_maps(values: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum values at points between cells, interpolated bilinearly; 0 outside of the map.

    On a GPU the gradients of `values` are summed in no fixed order.

    Args:
        values: [B, N, H, D], levels fine to coarse, row-major.
        sizes: of the L levels.
        locations: [B, Q, H, L, P, 2] (x, y), shares of width and height.
        weights: [B, Q, H, L, P] of the points.

    Returns:
        [B, Q, H, D].
    """
    batch, queries, heads = weights.shape[:3]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # [B * H, Q, L, P, 2]
    maps = values.permute(0, 2, 3, 1).flatten(0, 1)  # [B * H, D, N]
    levels = torch.split(maps, [height * width for height, width in sizes], dim=-1)
    read = [
        functional.grid_sample(torch.unflatten(level, -1, size), grid, align_corners=False)
        for level, size, grid in zip(levels, sizes, grids.unbind(2), strict=True)
    ]
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    summed = (torch.cat(read, dim=-1) * weights).sum(-1)  # [B * H, D, Q]
    return summed.reshape(batch, heads, -1, queries).permute(0, 3, 1, 2)


def read_corners(
    memory: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum the memory at points between cells, as `read_maps` does with a map a head.

    Each point is four rows of a table, one a corner, and all of a head's are summed at once.

    Args:
        memory: [B, N, D], levels fine to coarse, row-major.
        sizes: of the L levels.
        locations: [B, Q, H, L, P, 2] (x, y), shares of width and height.
        weights: [B, Q, H, L, P] of the points.

    Returns:
        read: [B, Q, H, D].
        total: [B, Q, H], the sum of the weights that fell on the map.
    """
    shape, count = weights.shape[:3], memory.shape[1]
    heights, widths, starts = _per_point(sizes, locations)
    x, y = locations.flatten(3, 4).unbind(-1)
    columns, right = _corners(x, widths)
    rows, below = _corners(y, heights)
    below = below * weights.reshape(*shape, 1, -1)
    rows = rows * widths + starts
    cells = (rows.unsqueeze(-2) + columns.unsqueeze(-3)).int()  # [B, Q, H, 2, 2, L * P]
    cells = cells.reshape(shape[0], -1).clamp_(0, count - 1)  # not a number is 0
    cells += torch.arange(shape[0], dtype=cells.dtype)[:, None] * count
    shares = (below.unsqueeze(-2) * right.unsqueeze(-3)).reshape(shape.numel(), -1)
    read = functional.embedding_bag(
        cells.reshape(shares.shape),
        memory.flatten(0, 1),
        mode="sum",
        per_sample_weights=shares,
    )
    return read.reshape(*shape, -1), shares.sum(-1).reshape(shape)


def _per_point(sizes: Sizes, locations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return height, width and first cell of the level of each of a head's points, [L * P]."""
    starts = [0]
    for height, width in sizes[:-1]:
        starts.append(starts[-1] + height * width)
    rows = [(h, w, start) for (h, w), start in zip(sizes, starts, strict=True)]
    table = locations.new_tensor(rows).repeat_interleave(locations.shape[-2], dim=0)
    heights, widths, firsts = table.unbind(-1)
    return heights, widths, firsts


def _corners(places: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two cells around places along one axis, and their weights.

    Args:
        places: [..., S], shares of the axis.
        length: [S], cells of the axis.

    Returns:
        cells: [..., 2, S], moved onto the axis where they were outside of it.
        weights: [..., 2, S], 0 where they were.
    """
    places = (places * length - 0.5).unsqueeze(-2)
    first = places.floor()
    around = torch.cat((first, first + 1), dim=-2)
    cells = torch.clamp(around, torch.zeros_like(length), length - 1)
    return cells, (1 - (places - around).abs()) * (cells == around)

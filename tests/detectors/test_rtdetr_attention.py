"""Deformable attention: both ways to read a memory, and what they must equal."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from detectors.rtdetr import attention
from detectors.rtdetr.attention import DeformableAttention

SIZES = [(8, 12), (4, 6), (2, 3)]  # 126 cells, more wide than high
CELLS = sum(height * width for height, width in SIZES)


def build_attention() -> DeformableAttention:
    torch.manual_seed(3)
    module = DeformableAttention(hidden_dim=32, num_heads=4, num_levels=3, num_points=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.requires_grad_(False)


def look_around() -> tuple[Tensor, Tensor, Tensor]:
    """Queries, boxes of which many reach out of the map, and a memory."""
    generator = torch.Generator().manual_seed(4)
    queries, memory = (torch.randn(2, n, 32, generator=generator) for n in (9, CELLS))
    boxes = torch.rand(2, 9, 4, generator=generator)
    boxes[0, :3] = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.5, 0.5, 0.0, 0.0]])
    return queries, boxes, memory


def read_slowly(values: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Interpolate point by point; values are [B, N, H, D], the result is [B, Q, H, D]."""
    read = torch.zeros(*weights.shape[:3], values.shape[-1])
    starts = [0, 96, 120]
    for b, q, h, level, p in torch.cartesian_prod(*map(torch.arange, weights.shape)).tolist():
        height, width = SIZES[level]
        x, y = (locations[b, q, h, level, p] * torch.tensor([width, height]) - 0.5).tolist()
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    value = values[b, starts[level] + row * width + column, h]
                    read[b, q, h] += share * weights[b, q, h, level, p] * value
    return read


def test_reading_equals_interpolation_point_by_point() -> None:
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(2, CELLS, 4, 8, generator=generator)
    locations = torch.rand(2, 3, 4, 3, 2, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(2, 3, 4, 3, 2, generator=generator)
    outside = ((locations < 0) | (locations > 1)).any(-1)
    assert 0.2 < outside.float().mean() < 0.8
    slow = read_slowly(values, locations, weights)
    torch.testing.assert_close(attention.read_maps(values, SIZES, locations, weights), slow)
    for head in range(4):  # the fast one gives every head the same table
        read, _ = attention.read_corners(values[:, :, head], SIZES, locations, weights)
        torch.testing.assert_close(read[:, :, head], slow[:, :, head])


def test_weights_on_the_map_are_summed() -> None:
    generator = torch.Generator().manual_seed(6)
    locations = torch.rand(2, 3, 4, 3, 2, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(2, 3, 4, 3, 2, generator=generator)
    ones = torch.ones(2, CELLS, 4, 1)
    _, total = attention.read_corners(ones[:, :, 0], SIZES, locations, weights)
    torch.testing.assert_close(total, read_slowly(ones, locations, weights)[..., 0])


def test_attention_parity_with_hugging_face() -> None:
    transformers = pytest.importorskip("transformers")
    rt_detr = transformers.models.rt_detr.modeling_rt_detr
    config = transformers.RTDetrConfig(d_model=32, num_feature_levels=3)
    theirs = rt_detr.RTDetrMultiscaleDeformableAttention(config, num_heads=4, n_points=2)
    ours = build_attention()
    names = {
        "sampling_offsets": "offsets",
        "attention_weights": "weights",
        "value_proj": "value",
        "output_proj": "output",
    }
    for their_name, name in names.items():
        getattr(theirs, their_name).load_state_dict(getattr(ours, name).state_dict())
    queries, boxes, memory = look_around()
    with torch.no_grad():
        expected, _ = theirs(
            hidden_states=queries,
            encoder_hidden_states=memory,
            reference_points=boxes[:, :, None],
            spatial_shapes=torch.tensor(SIZES),
            spatial_shapes_list=SIZES,
        )
    torch.testing.assert_close(ours(queries, boxes, memory, SIZES), expected)


def test_attention_reads_faster_only_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, boxes, memory = look_around()
    module = build_attention()
    expected = module(queries, boxes, memory, SIZES)
    fused = copy.deepcopy(module).fuse()
    calls = []
    read_corners = attention.read_corners

    def count(*arguments: Any) -> tuple[Tensor, Tensor]:
        calls.append(arguments)
        return read_corners(*arguments)

    monkeypatch.setattr(attention, "read_corners", count)
    torch.testing.assert_close(fused(queries, boxes, memory, SIZES), expected)
    assert len(calls) == 1
    fused(queries, boxes, memory.clone().requires_grad_(), SIZES)
    fused.bfloat16()(queries.bfloat16(), boxes, memory.bfloat16(), SIZES)
    module(queries, boxes, memory, SIZES)
    assert len(calls) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_a_box_that_is_no_number_harms_its_own_query_alone(bad: float) -> None:
    queries, boxes, memory = look_around()
    broken = boxes.clone()
    broken[1, 4, 0] = bad
    for module in (build_attention(), build_attention().fuse()):
        kept, changed = (module(queries, x, memory, SIZES) for x in (boxes, broken))
        others = torch.ones(2, 9, dtype=torch.bool)
        others[1, 4] = False
        torch.testing.assert_close(kept[others], changed[others])


def test_points_start_on_a_ring() -> None:
    module = DeformableAttention(hidden_dim=32, num_heads=8, num_levels=3, num_points=4)
    offsets = module.offsets.bias.reshape(8, 3, 4, 2)
    assert module.offsets.weight.eq(0).all()
    torch.testing.assert_close(offsets[0, 1], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
    torch.testing.assert_close(offsets[3, 2, 1], torch.tensor([-2.0, 2.0]))
    assert module.weights.weight.eq(0).all()
    assert module.weights.bias.eq(0).all()

"""RT-DETR's head: query selection, decoder, early exit."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from detectors.interface import Target
from detectors.queries import gather_objects
from detectors.rtdetr.denoising import DenoisingConfig, make_noise
from detectors.rtdetr.head import RTDETRHead, RTDETRHeadConfig
from detectors.rtdetr.queries import Noise
from detectors.rtdetr.selection import make_anchors

SIZES = [(8, 12), (4, 6), (2, 3)]  # 126 cells, more wide than high
CELLS = sum(height * width for height, width in SIZES)
STRIDES = (8, 16, 32)
INPUT = (64, 96)
CLASSES = 5
CONFIG: dict[str, Any] = {
    "hidden_dim": 32,
    "num_queries": 20,
    "num_layers": 3,
    "num_heads": 4,
    "num_points": 2,
    "feedforward_dim": 48,
    "denoising": DenoisingConfig(num_queries=4),
}


def build_head(**knobs: Any) -> RTDETRHead:
    """A head in eval mode whose weights are all random, those that start as zeros included."""
    torch.manual_seed(0)
    head = RTDETRHeadConfig(**(CONFIG | knobs)).build((24, 32, 40), STRIDES, CLASSES)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for module in head.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return head.eval()


@pytest.fixture(scope="module")
def features() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, width, *size, generator=generator)
        for width, size in zip((24, 32, 40), SIZES, strict=True)
    ]


@pytest.fixture(scope="module")
def noise() -> Noise:
    """Two groups for two objects in the first image and one in the second."""
    torch.manual_seed(2)
    boxes = torch.tensor([[4.0, 8.0, 40.0, 60.0], [50.0, 10.0, 90.0, 30.0]])
    targets = [Target(boxes, torch.tensor([1, 4])), Target(boxes[:1] + 3, torch.tensor([0]))]
    made = make_noise(gather_objects(targets, INPUT), CLASSES, DenoisingConfig(num_queries=4))
    assert made is not None
    return made


def test_anchors_of_a_square_and_of_a_wide_input() -> None:
    anchors, usable = make_anchors([(80, 80), (40, 40), (20, 20)], torch.device("cpu"))
    assert usable.sum() == 8400 - 316  # the outermost cells of the finest level
    assert anchors.dtype == torch.float32
    assert (anchors.sigmoid()[~usable] == 1).all()
    anchors, usable = make_anchors(SIZES, torch.device("cpu"))
    assert usable.all()
    second = torch.tensor([1.5 / 12, 0.5 / 8, 0.05, 0.05])
    last = torch.tensor([2.5 / 3, 1.5 / 2, 0.2, 0.2])
    torch.testing.assert_close(anchors.sigmoid()[[1, -1]], torch.stack((second, last)))


def test_unused_anchors_neither_spread_nor_move() -> None:
    """All cells are selected, those without an anchor included."""
    head = build_head(num_queries=10**4)
    sizes = [(60, 4), (30, 2), (15, 1)]
    features = [torch.randn(1, c, *s) for c, s in zip((24, 32, 40), sizes, strict=True)]
    outputs = head.train_outputs(features, None)
    boxes = outputs.encoder.boxes
    unused = (boxes == 1).all(-1)
    assert unused.sum() == 2 * 4  # the first and the last row of the finest level
    logits = outputs.encoder.logits[unused]
    torch.testing.assert_close(logits, logits[:1].expand(8, -1))
    (boxes.sum() + outputs.layers.boxes.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("used", [1, 2, 3])
def test_early_exit_equals_the_layer_and_runs_none_after_it(
    used: int, features: list[Tensor]
) -> None:
    head = build_head(layers_used=used)
    calls: list[str] = []
    for name, module in head.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        outputs = head(features)
        ran = [f"layers.{i}" for i in range(3) if f"layers.{i}" in calls]
        moved = [f"box_heads.{i}" for i in range(3) if f"box_heads.{i}" in calls]
        scored = [f"score_heads.{i}" for i in range(3) if f"score_heads.{i}" in calls]
        layers = head.train_outputs(features, None).layers
    assert ran == [f"layers.{i}" for i in range(used)]
    assert moved == [f"box_heads.{i}" for i in range(used)]
    assert scored == [f"score_heads.{used - 1}"]
    height, width = INPUT
    boxes = box_convert(layers.boxes[used - 1], "cxcywh", "xyxy")
    boxes = boxes * torch.tensor([width, height, width, height])
    torch.testing.assert_close(outputs.logits, layers.logits[used - 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs.boxes, boxes, rtol=1e-4, atol=1e-4)


def test_all_layers_are_used_unless_told(features: list[Tensor]) -> None:
    with torch.no_grad():
        torch.testing.assert_close(
            build_head(layers_used=0)(features), build_head(layers_used=3)(features), rtol=0, atol=0
        )


@pytest.mark.parametrize("used", [0, 2])
def test_fused_is_equal_and_smaller(used: int, features: list[Tensor]) -> None:
    head = build_head(layers_used=used)
    layers = used or 3
    fused = copy.deepcopy(head).requires_grad_(False).fuse()
    with torch.no_grad():
        expected, outputs = head(features), fused(features)
        again = fused.fuse()(features)
    torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(again, outputs, rtol=0, atol=0)
    keys = fused.state_dict()
    assert not [key for key in keys if "norm.running" in key or "denoising" in key]
    assert {key.split(".")[1] for key in keys if key.startswith("layers.")} == set(
        map(str, range(layers))
    )
    assert {key.split(".")[1] for key in keys if key.startswith("score_heads.")} == {
        str(layers - 1)
    }
    assert not unused(fused, features)


def unused(module: nn.Module, features: list[Tensor]) -> set[str]:
    """Names of submodules with parameters that a forward pass does not call."""
    with_parameters = {
        name for name, part in module.named_modules() if [*part.parameters(recurse=False)]
    }
    called = set()
    for name, part in module.named_modules():
        part.register_forward_hook(lambda *_, name=name: called.add(name))
    with torch.no_grad():
        module(features)
    return {
        name
        for name in with_parameters - called
        if not name.endswith(("cross_attn.value", "self_attn.out_proj"))  # read by their owner
    }


def test_position_is_added_where_queries_are_compared() -> None:
    layer = build_head().layers[0]
    given: dict[str, tuple[Tensor, ...]] = {}
    for name in ("self_attn", "cross_attn"):
        part = layer.get_submodule(name)
        part.register_forward_pre_hook(lambda _, x, name=name: given.update({name: x}))
    normed: list[Tensor] = []
    layer.norm1.register_forward_hook(lambda _, x, y: normed.append(y))
    generator = torch.Generator().manual_seed(7)
    queries, position = torch.randn(2, 2, 9, 32, generator=generator)
    memory = torch.randn(2, CELLS, 32, generator=generator)
    layer(queries, position, torch.full((2, 9, 4), 0.5), memory, SIZES)
    query, key, value = given["self_attn"]
    assert torch.equal(query, queries + position)
    assert torch.equal(key, queries + position)
    assert torch.equal(value, queries)
    assert torch.equal(given["cross_attn"][0], normed[0] + position)


def test_undeployed_head_computes_the_boxes_of_all_cells(features: list[Tensor]) -> None:
    head, counts = build_head(), []
    head.selection.box.register_forward_hook(lambda _, x, y: counts.append(y.shape[1]))
    with torch.no_grad():
        head(features)
        head.train_outputs(features, None)
        head.fuse()(features)
    assert counts == [CELLS, 20, 20]


def gradients(head: RTDETRHead, loss: Tensor) -> set[str]:
    """The parameters that a loss changes, but for those of the layers' insides."""
    head.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name.rsplit(".", 1)[0]
        for name, parameter in head.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


def test_gradients_look_forward_twice_and_leave_the_selection(
    features: list[Tensor], noise: Noise
) -> None:
    head = build_head().train()
    outputs = head.train_outputs(features, noise)
    assert outputs.denoising is not None
    seen = [gradients(head, outputs.layers.boxes[i].sum()) for i in range(3)]
    last = ["box_heads.0.layers.2", "box_heads.1.layers.2", "box_heads.2.layers.2"]
    assert [name in seen[0] for name in last] == [True, False, False]
    assert [name in seen[1] for name in last] == [True, True, False]
    assert [name in seen[2] for name in last] == [False, True, True]
    for reached in (*seen, gradients(head, outputs.layers.logits.sum())):
        assert not [name for name in reached if name.startswith("selection")]
        assert "input_proj.0.conv" in reached
    reached = gradients(head, outputs.encoder.boxes.sum())
    assert {"selection.box.layers.0", "selection.project.0", "input_proj.0.conv"} <= reached
    assert "selection.score" not in reached
    reached = gradients(head, outputs.encoder.logits.sum())
    assert {"selection.score", "selection.project.0"} <= reached
    assert not [name for name in reached if name.startswith(("selection.box", "layers"))]
    assert "denoising_embed" in gradients(head, outputs.denoising.logits.sum())


def test_noise_changes_nothing_for_the_matching_queries(
    features: list[Tensor], noise: Noise
) -> None:
    head = build_head()
    with torch.no_grad():
        with_noise, without = (
            head.train_outputs(features, noise),
            head.train_outputs(features, None),
        )
    torch.testing.assert_close(with_noise.layers, without.layers, rtol=1e-4, atol=1e-5)
    assert without.denoising is None
    assert with_noise.denoising is not None
    assert with_noise.denoising.logits.shape == (3, 2, noise.queries, CLASSES)
    assert with_noise.denoising.boxes.shape == (3, 2, noise.queries, 4)
    assert with_noise.encoder.logits.shape == (1, 2, 20, CLASSES)


def test_groups_of_noise_do_not_see_each_other(features: list[Tensor], noise: Noise) -> None:
    head = build_head()
    group = noise.queries // noise.groups
    labels = noise.labels.clone()
    labels[:, group:] = (labels[:, group:] + 1) % CLASSES
    with torch.no_grad():
        before = head.train_outputs(features, noise).denoising
        after = head.train_outputs(features, noise._replace(labels=labels)).denoising
    assert before is not None
    assert after is not None
    torch.testing.assert_close(before.logits[:, :, :group], after.logits[:, :, :group])
    assert (before.logits[:, :, group:] - after.logits[:, :, group:]).abs().max() > 1e-3


@pytest.mark.parametrize("noisy", [True, False])
def test_every_parameter_has_a_gradient(noisy: bool, features: list[Tensor], noise: Noise) -> None:
    head = build_head().train()
    outputs = head.train_outputs(features, noise if noisy else None)
    parts = (outputs.layers, outputs.encoder, *([outputs.denoising] if noisy else []))
    sum(tensor.sum() for part in parts for tensor in part).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None] == []
    assert head.denoising_embed is not None
    assert head.denoising_embed.weight.grad[CLASSES].eq(0).all()


def test_without_denoising_there_is_no_embedding(features: list[Tensor]) -> None:
    head = build_head(denoising=DenoisingConfig(num_queries=0))
    assert not [key for key in head.state_dict() if "denoising" in key]
    assert head.train_outputs(features, None).denoising is None


def test_more_queries_than_cells(features: list[Tensor], noise: Noise) -> None:
    head = build_head(num_queries=300)
    with torch.no_grad():
        assert head(features).boxes.shape == (2, CELLS, 4)
        assert head.train_outputs(features, noise).layers.boxes.shape == (3, 2, CELLS, 4)
        assert head.fuse()(features).boxes.shape == (2, CELLS, 4)


def test_queries_are_the_cells_with_the_best_scores(features: list[Tensor]) -> None:
    head = build_head()
    few, all_cells = head, copy.deepcopy(head)
    all_cells.num_queries = CELLS
    with torch.no_grad():
        chosen = few.train_outputs(features, None).encoder
        ranked = all_cells.train_outputs(features, None).encoder
    torch.testing.assert_close(chosen.logits, ranked.logits[:, :, :20])
    torch.testing.assert_close(chosen.boxes, ranked.boxes[:, :, :20])
    best = ranked.logits.amax(-1)
    assert (best.diff(dim=-1) <= 0).all()
    assert best.std() > 0.01


def test_half_precision_keeps_boxes_in_full(features: list[Tensor], noise: Noise) -> None:
    head = build_head()
    with torch.no_grad():
        expected = head.train_outputs(features, noise)
        with torch.autocast("cpu", torch.bfloat16):
            mixed, mixed_forward = head.train_outputs(features, noise), head(features)
        head.bfloat16()
        halves = [x.bfloat16() for x in features]
        half, half_forward = head.train_outputs(halves, noise), head(halves)
        fused = head.fuse()(halves)
    for outputs in (mixed, half):
        assert outputs.layers.boxes.dtype == torch.float32
        assert outputs.encoder.boxes.dtype == torch.float32
        assert outputs.layers.logits.isfinite().all()
        assert outputs.denoising is not None
        assert (outputs.denoising.boxes - expected.denoising.boxes).abs().mean() < 0.05
    for outputs in (mixed_forward, half_forward, fused):
        assert outputs.boxes.dtype == torch.float32
        assert outputs.boxes.isfinite().all()
        assert outputs.boxes.abs().max() < 200


def test_works_without_memory(features: list[Tensor], noise: Noise) -> None:
    head = build_head().to("meta")
    features = [x.to("meta") for x in features]
    empty = noise._replace(labels=noise.labels.to("meta"), boxes=noise.boxes.to("meta"))
    assert head(features).boxes.shape == (2, 20, 4)
    assert head.train_outputs(features, empty).layers.boxes.shape == (3, 2, 20, 4)
    with torch.no_grad():
        assert head.fuse()(features).boxes.shape == (2, 20, 4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_forward_can_be_exported(features: list[Tensor]) -> None:
    head = build_head(num_layers=1).requires_grad_(False).fuse()
    program = torch.export.export(head, (features,))
    operators = {str(node.target) for node in program.graph.nodes}
    assert not [name for name in operators if "embedding_bag" in name]
    torch.testing.assert_close(program.module()(features), head(features), rtol=1e-4, atol=1e-3)


def test_dropout_acts_in_training_alone(features: list[Tensor]) -> None:
    head = build_head(dropout=0.5)
    with torch.no_grad():
        assert torch.equal(head(features).logits, head(features).logits)
        head.train()
        assert not torch.equal(head(features).logits, head(features).logits)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_heads": 3}, "hidden_dim must be a multiple of num_heads"),
        ({"layers_used": 4}, "layers_used must be in 0..3"),
        ({"layers_used": -1}, "layers_used"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"num_queries": 0}, "num_queries must be at least 1"),
        ({"num_points": 0}, "num_points must be at least 1"),
        ({"feedforward_dim": 0}, "feedforward_dim must be at least 1"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RTDETRHeadConfig(**(CONFIG | knobs))


@pytest.mark.parametrize("deployed", [False, True])
def test_what_is_selected_is_what_the_losses_of_the_encoder_see(
    features: list[Tensor], deployed: bool
) -> None:
    head = build_head()
    with torch.no_grad():
        logits, shares = (part[0] for part in head.train_outputs(features, None).encoder)
        found = (copy.deepcopy(head).fuse() if deployed else head).selected(features)
    assert found.logits.shape == (2, 20, CLASSES)
    torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-4)
    sides = torch.tensor([INPUT[1], INPUT[0]] * 2)
    expected = box_convert(shares, "cxcywh", "xyxy") * sides
    torch.testing.assert_close(found.boxes, expected, rtol=1e-4, atol=1e-2)

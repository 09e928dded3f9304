"""RTMDet's published figures, its start of training, and mixed precision."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import detectors
from detectors.boxes import pairwise_iou
from detectors.interface import DenseOutputs, Target
from detectors.rtmdet.criterion import RTMDetCriterionConfig
from detectors.rtmdet.detector import RTMDet
from detectors.rtmdet.head import RTMDetHeadConfig
from detectors.rtmdet.weights import rename

CLAIMS = {
    "rtmdet_tiny": 4896168,
    "rtmdet_s": 8886924,
    "rtmdet_m": 24709188,
    "rtmdet_l": 52315804,
    "rtmdet_x": 94855572,
}
SMALL = {"backbone.width_mult": 0.125, "num_classes": 3, "head.exp_on_reg": True}


def parameters(name: str, **overrides: Any) -> int:
    knobs = {path.replace("__", "."): value for path, value in overrides.items()}
    with torch.device("meta"):
        return sum(p.numel() for p in detectors.create(name, knobs).parameters())


@pytest.mark.parametrize("name", CLAIMS)
def test_published_parameters(name: str) -> None:
    assert parameters(name) == CLAIMS[name]


def macs(name: str, **overrides: Any) -> int:
    with torch.device("meta"):
        model = detectors.create(name, overrides).eval()
        images = torch.empty(1, 3, *model.config.input.size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() // 2


def test_published_macs_of_tiny() -> None:
    assert macs("rtmdet_tiny") == 8036087040


def test_published_figures_of_nano() -> None:
    """Of persons alone: 0.99 M and 0.31 G; open-mmlab/mmpose projects/rtmpose/README.md."""
    assert parameters("rtmdet_nano", num_classes=1) == 994423
    assert macs("rtmdet_nano", num_classes=1) == 308035840


# Of 3x3 kernels; blocks have one more each, depth-wise already. Stem, 1x1s and predictors stay.
@pytest.mark.parametrize(
    ("stage", "ordinary"), [("backbone", 3), ("neck", 0), ("head", 0)], ids=["b", "n", "h"]
)
def test_depthwise_leaves_ordinary_3x3s_to_the_stem(stage: str, ordinary: int) -> None:
    with torch.device("meta"):
        model = detectors.create("rtmdet_nano")
    parts = [part for part in getattr(model, stage).modules() if isinstance(part, nn.Conv2d)]
    wide = [part for part in parts if part.kernel_size != (1, 1)]
    assert sum(part.groups == 1 for part in wide) == ordinary
    assert all(part.groups in (1, part.in_channels) for part in wide)


@pytest.mark.parametrize("sharing", ["separate", "shared", "sepbn"])
def test_a_depthwise_head_shares_what_an_ordinary_one_does(sharing: str) -> None:
    def count(*, depthwise: bool) -> tuple[int, int]:
        head = RTMDetHeadConfig(sharing=sharing, depthwise=depthwise).build(8, (8, 16, 32), 5)
        parts = list(head.modules())
        return tuple(
            sum(isinstance(p, kind) for p in parts) for kind in (nn.Conv2d, nn.BatchNorm2d)
        )

    (convs, norms), (separable, their_norms) = count(depthwise=False), count(depthwise=True)
    predictors = 2 if sharing == "shared" else 6
    assert separable - predictors == 2 * (convs - predictors)
    assert their_norms == 2 * norms


# One key of every kind that only nano has; mmpose's release is of these.
UPSTREAM = {
    "backbone.stage2.0.depthwise_conv.conv.weight": "backbone.stages.1.0.0.conv.weight",
    "backbone.stage4.0.pointwise_conv.bn.bias": "backbone.stages.3.0.1.norm.bias",
    "backbone.stage1.1.blocks.0.conv1.depthwise_conv.conv.weight": (
        "backbone.stages.0.1.blocks.0.conv.0.conv.weight"
    ),
    "backbone.stage1.1.blocks.0.conv2.pointwise_conv.bn.weight": (
        "backbone.stages.0.1.blocks.0.separable.1.norm.weight"
    ),
    "neck.downsamples.1.depthwise_conv.bn.running_var": "neck.downsample.1.0.norm.running_var",
    "neck.out_convs.2.pointwise_conv.conv.weight": "neck.out.2.1.conv.weight",
    "bbox_head.cls_convs.2.1.depthwise_conv.conv.weight": ("head.classify.convs.1.2.0.conv.weight"),
    "bbox_head.reg_convs.0.1.pointwise_conv.bn.running_mean": (
        "head.regress.convs.1.0.1.norm.running_mean"
    ),
    "bbox_head.rtm_reg.1.bias": "head.regress.predict.1.bias",
}


def test_upstream_names_the_layers_of_nano() -> None:
    with torch.device("meta"):
        own = detectors.create("rtmdet_nano").state_dict()
    assert {key: rename(key) for key in UPSTREAM} == UPSTREAM
    assert set(UPSTREAM.values()) <= own.keys()


@pytest.mark.parametrize(
    ("overrides", "millions"),
    [
        ({"backbone__kernel_size": 3, "neck__kernel_size": 3}, 50.80),  # table5a_kernel
        ({}, 50.92),
        ({"backbone__kernel_size": 7, "neck__kernel_size": 7}, 51.10),
        ({"backbone__blocks": (3, 9, 9, 3)}, 53.40),  # table5b_blocks
        ({"backbone__channel_attention": True}, 52.30),
        ({"backbone__channel_attention": True, "head__sharing": "separate"}, 57.03),  # table5d_head
        ({"backbone__channel_attention": True, "head__sharing": "sepbn"}, 52.32),
    ],
)
def test_published_parameters_of_ablations(overrides: dict[str, Any], millions: float) -> None:
    """Of l; its ablations of kernel and blocks go without channel attention."""
    count = parameters("rtmdet_l", **({"backbone__channel_attention": False} | overrides))
    assert count / 1e6 == pytest.approx(millions, abs=0.03)


def test_a_fully_shared_head_has_one_of_everything() -> None:
    head = RTMDetHeadConfig(sharing="shared").build(8, (8, 16, 32), 5)
    assert sum(isinstance(part, nn.Conv2d) for part in head.modules()) == 2 * (2 + 1)
    same = torch.randn(1, 8, 4, 4)
    logits = head.eval()([same, same, same]).logits
    assert torch.equal(logits[:, :16], logits[:, 16:32])


def test_stages_use_what_the_config_says() -> None:
    model = detectors.create("rtmdet_tiny", SMALL | {"neck.out_channels": 24})
    features = model.backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in features] == [(32, 8, 12), (64, 4, 6), (128, 2, 3)]
    assert [x.shape[1] for x in model.neck(features)] == [24, 24, 24]
    assert model.config.backbone.channels == (32, 64, 128)


def test_decoding_is_in_single_precision() -> None:
    head = RTMDetHeadConfig(exp_on_reg=True).build(8, (8,), 2).bfloat16().eval()
    outputs = head([torch.zeros(1, 8, 2, 2, dtype=torch.bfloat16)])
    assert outputs.boxes.dtype == torch.float32
    assert outputs.boxes[0, 0].tolist() == [-8, -8, 8, 8]  # exp(0) strides around (0, 0)


def scene(height: int = 96, width: int = 128) -> tuple[Tensor, list[Target]]:
    """Two images with blocks whose colour is their class."""
    boxes = torch.tensor(
        [[4.0, 8.0, 60.0, 50.0], [30.0, 40.0, 100.0, 90.0], [70.0, 4.0, 120.0, 36.0]]
    )
    targets = [Target(boxes, torch.tensor([0, 1, 2])), Target(boxes[1:2] + 5, torch.tensor([1]))]
    images = 0.1 * torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    for image, target in zip(images, targets, strict=True):
        for (x1, y1, x2, y2), label in zip(target.boxes.int().tolist(), target.labels, strict=True):
            image[label, y1:y2, x1:x2] += 2
    return images, targets


def test_first_step_is_gentle() -> None:
    torch.manual_seed(0)
    model = detectors.create("rtmdet_tiny").train()
    images, targets = scene(320, 320)
    losses = model.losses(images, targets)
    assert 0 < losses["loss_cls"] < 5
    assert 0 <= losses["loss_giou"] < 5
    scores = model.eval()(images).scores()
    assert scores.mean().item() == pytest.approx(0.01, abs=0.002)
    assert model.head.classify.predict[2].bias[0].item() == pytest.approx(-math.log(99))


@pytest.mark.parametrize(("dtype", "side"), [(torch.float16, 640), (torch.bfloat16, 160)])
def test_mixed_precision_is_finite_on_a_large_input(dtype: torch.dtype, side: int) -> None:
    """Large for float16, whose numbers end at 65,504; bfloat16 has those of float32."""
    torch.manual_seed(0)
    model: RTMDet = detectors.create("rtmdet_tiny", SMALL).train()
    images, targets = scene(side, side)
    with torch.autocast("cpu", dtype=dtype):
        assert model(images[:1]).logits.dtype == dtype
        losses = model.losses(images[:1], targets[:1])
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
def test_it_learns_two_images() -> None:
    """A wrong box format, assigner or loss would leave an object unfound."""
    torch.manual_seed(4)
    model = detectors.create("rtmdet_tiny", SMALL).train()
    images, targets = scene()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(model.losses(images, targets).values()).backward()
        optimizer.step()
    found = model.eval().detect(images, torch.tensor([[96, 128]] * 2))
    for detections, target in zip(found, targets, strict=True):
        for box, label in zip(target.boxes, target.labels, strict=True):
            best = detections.boxes[detections.labels == label][:1]
            assert pairwise_iou(best, box[None]).item() > 0.5


def outputs_around(boxes: Tensor) -> DenseOutputs:
    """Predict these boxes at points inside them, without an opinion on the class."""
    points = (boxes[:, :2] + boxes[:, 2:]) / 2
    logits = torch.zeros(1, len(boxes), 2, requires_grad=True)
    return DenseOutputs(logits, boxes[None], points, torch.full((len(boxes),), 8.0))


def test_losses_by_hand() -> None:
    """One prediction with overlap 1/2 on its object, one background."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 5.0], [50.0, 50.0, 60.0, 60.0]])
    target = Target(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([1]))
    config = RTMDetCriterionConfig(cls_weight=3.0, giou_weight=5.0)
    losses = config.build(detectors.CONFIGS["rtmdet_s"].assigner)(outputs_around(boxes), [target])
    # scores are 1/2: right where the overlap is 1/2, log(2) / 4 for each of three zeros;
    # the overlaps' sum, 1/2, is raised to 1
    assert losses["loss_cls"].item() == pytest.approx(3 * 3 * math.log(2) / 4)
    assert losses["loss_giou"].item() == pytest.approx(5 * 0.5 * 0.5)


def test_losses_are_divided_by_the_sum_of_overlaps() -> None:
    target = Target(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([0]))
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 3)
    criterion = RTMDetCriterionConfig().build(detectors.CONFIGS["rtmdet_s"].assigner)
    losses = criterion(outputs_around(boxes), [target])
    # three positives of overlap 1: six scores of 1/2 that should be 1 or 0
    assert losses["loss_cls"].item() == pytest.approx(6 * math.log(2) / 4 / 3)


@pytest.mark.parametrize(
    "path_and_value",
    [
        ("backbone.kernel_size", 4),
        ("backbone.width_mult", 0.0),
        ("backbone.blocks", (3, 0, 6, 3)),
        ("neck.num_blocks", 0),
        ("neck.kernel_size", 2),
        ("neck.out_channels", 0),
        ("head.stacked_convs", -1),
        ("criterion.giou_weight", -1.0),
        ("num_classes", 0),
    ],
    ids=str,
)
def test_impossible_knobs_are_refused(path_and_value: tuple[str, Any]) -> None:
    path, value = path_and_value
    with pytest.raises(detectors.config.KnobError, match=path.split(".")[-1]):
        detectors.create("rtmdet_s", {path: value})

"""RT-DETR's knobs: all its configs, and the seven published variants.

Published at 640x640 with 80 classes. Parameters are those of the model as it is trained;
GFLOPs follow from `harness.measure.complexity.conventions`, which tells what the paper counted.

| name | parameters | GFLOPs |
| --- | --- | --- |
| rtdetr_r18 | 20184464 | 60 |
| rtdetr_r34 | 31441668 | 92 |
| rtdetr_r50_m | 36593772 | 100 |
| rtdetr_r50 | 42891372 | 136 |
| rtdetr_r101 | 76556268 | 259 |
| rtdetr_hgnetv2_l | 32925036 | 110 |
| rtdetr_hgnetv2_x | 67374188 | 234 |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from detectors.backbones import hgnetv2_config as hgnetv2
from detectors.backbones import presnet_config as presnet
from detectors.backbones.cspnext_config import CSPNeXtConfig
from detectors.backbones.hgnetv2_config import HGNetv2Config
from detectors.backbones.presnet_config import PResNetConfig
from detectors.config import inference_only
from detectors.contract import Built, InputConfig
from detectors.matching_config import HungarianMatcher
from detectors.postprocess_config import TopKConfig

LEVELS = (3, 4, 5)  # strides 8, 16 and 32, the paper's S3 to S5
ATTENTION = {"A": (), "B": LEVELS, "C": LEVELS, "D": LEVELS, "D_S5": (5,), "E": (5,)}


@dataclass(frozen=True)
class HybridEncoderConfig(Built):
    """Design and size of the encoder."""

    makes: ClassVar[str] = "detectors.rtdetr.neck:HybridEncoder"

    variant: Literal["A", "B", "C", "D", "D_S5", "E"] = "E"
    """How levels are encoded and fused, from A (not at all) to E; see HybridEncoder. Swept by
    rtdetr/table3."""
    attention_levels: tuple[int, ...] = ()
    """Levels, ascending from 3 (stride 8) to 5 (stride 32), whose cells attend to those of the same
    level; none for those of the variant. For the variants D, D_S5 and E. In no published table but
    for the two that are variants of rtdetr/table3: D and D_S5."""
    num_layers: int = 1
    """Layers of attention; 0 for no attention. 1 in rtdetr/tableA."""
    num_heads: int = 8
    """Heads of the attention. 8 in rtdetr/tableA."""
    hidden_dim: int = 256
    """Channels of every level that leaves the encoder, a multiple of 4 and of `num_heads`. Differs
    with the sizes of rtdetr/table2."""
    feedforward_dim: int = 1024
    """Width of the attention's feed-forward network. Differs with the sizes of rtdetr/table2."""
    dropout: float = 0.0
    """Share of activations that the attention drops in training. In no published table."""
    num_blocks: int = 3
    """RepVGG blocks in each fusion block of E. 3 in rtdetr/tableA; none at all is D_S5 of
    rtdetr/table3."""
    expand_ratio: float = 1.0
    """Width inside a fusion block as a share of `hidden_dim`. Differs with the sizes of
    rtdetr/tableB."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        self._check_attention()
        if self.feedforward_dim < 1:
            raise ValueError("feedforward_dim must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")
        if self.num_blocks < 0:
            raise ValueError("num_blocks must not be negative")
        if int(self.hidden_dim * self.expand_ratio) < 1:
            raise ValueError("expand_ratio must leave at least one of the hidden_dim channels")

    def _check_attention(self) -> None:
        levels = self.attention_levels
        if levels and self.variant in ("A", "B", "C"):
            raise ValueError(f"attention_levels must be empty for variant {self.variant}")
        if not set(levels) <= set(LEVELS) or list(levels) != sorted(set(levels)):
            raise ValueError("attention_levels must ascend within 3, 4, 5, each at most once")
        if self.num_layers < 0:
            raise ValueError("num_layers must not be negative")
        if self.num_heads < 1:
            raise ValueError("num_heads must be at least 1")
        if self.hidden_dim < 1 or self.hidden_dim % 4 or self.hidden_dim % self.num_heads:
            raise ValueError("hidden_dim must be a multiple of 4 and of num_heads")

    @property
    def attending(self) -> tuple[tuple[int, ...], ...]:
        """Groups of levels, 3 to 5, whose cells attend to all those of the same group."""
        levels = self.attention_levels or ATTENTION[self.variant]
        if self.num_layers == 0 or not levels:
            return ()
        return (levels,) if self.variant == "C" else tuple((level,) for level in levels)

    @property
    def shares_attention(self) -> bool:
        """Whether all groups go through the same layers."""
        return self.variant in ("B", "D")

    @property
    def fuses_levels(self) -> bool:
        """Whether levels are fused top-down and bottom-up."""
        return self.variant in ("D", "D_S5", "E")


@dataclass(frozen=True)
class DenoisingConfig:
    """How many objects are disturbed, and how much."""

    num_queries: int = 100
    """Pairs of denoising queries an image, a near and a far one, as far as whole groups of them
    fit; one group at least. 0 for none. Upstream's code has 100 pairs where rtdetr/tableA has 200,
    perhaps of queries."""
    label_noise: float = 0.5
    """Twice the probability that a denoising query gets a random class, which may be its own.
    0.5 in rtdetr/tableA."""
    box_noise: float = 1.0
    """How far each side of a box moves at most, as a share of half the width or height; the far
    query's move between once and twice as far. 1 in rtdetr/tableA."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.num_queries < 0 or self.box_noise < 0:
            raise ValueError("num_queries and box_noise must not be negative")
        if not 0 <= self.label_noise <= 2:
            raise ValueError("label_noise must be in [0, 2]")


@dataclass(frozen=True)
class RTDETRHeadConfig(Built):
    """Width and depth of the decoder, and its queries."""

    makes: ClassVar[str] = "detectors.rtdetr.head:RTDETRHead"

    hidden_dim: int = 256
    """Width of queries and of what they read, a multiple of `num_heads`; 256 in rtdetr/tableA."""
    num_queries: int = 300
    """Predictions an image; all cells of the pyramid if there are fewer. 300 in rtdetr/tableA."""
    num_layers: int = 6
    """Decoder layers that are trained. Swept by rtdetr/table5."""
    layers_used: int = inference_only(0)
    """Decoder layers that run at inference, the first so many; 0 for all. Swept by rtdetr/table5
    and rtdetr/tableB."""
    num_heads: int = 8
    """Heads of the decoder's attentions; 8 in rtdetr/tableA."""
    num_points: int = 4
    """Points that a head reads in each level; 4 in rtdetr/tableA. Swept, for RT-DETRv2, by
    rtdetr/v2_sampling_points."""
    feedforward_dim: int = 1024
    """Width inside a decoder layer's last part; 1024 in rtdetr/tableA."""
    dropout: float = 0.0
    """Share of values that training leaves out in the decoder; in no published table."""
    denoising: DenoisingConfig = DenoisingConfig()
    """Extra queries in training, which start from disturbed objects."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        for name in ("hidden_dim", "num_queries", "num_layers", "num_heads", "num_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.feedforward_dim < 1:
            raise ValueError("feedforward_dim must be at least 1")
        if self.hidden_dim % self.num_heads:
            raise ValueError(f"hidden_dim must be a multiple of num_heads, {self.num_heads}")
        if not 0 <= self.layers_used <= self.num_layers:
            raise ValueError(f"layers_used must be in 0..{self.num_layers}, the num_layers trained")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be in [0, 1)")


@dataclass(frozen=True)
class RTDETRCriterionConfig(Built):
    """Weights of the losses, and what the encoder's scores learn."""

    makes: ClassVar[str] = "detectors.rtdetr.criterion:RTDETRCriterion"

    cls_weight: float = 1.0
    """Weight of every `loss_cls`; 1 in rtdetr/tableA."""
    bbox_weight: float = 5.0
    """Weight of every `loss_bbox`; 5 in rtdetr/tableA."""
    giou_weight: float = 2.0
    """Weight of every `loss_giou`; 2 in rtdetr/tableA."""
    alpha: float = 0.75
    """Weight of a class that is not the object's in the varifocal loss; 0.75 in rtdetr/tableA."""
    gamma: float = 2.0
    """Exponent of the varifocal loss: how much less a score counts that is low already; 2 in
    rtdetr/tableA."""
    query_selection: Literal["uncertainty_minimal", "vanilla"] = "uncertainty_minimal"
    """What the encoder's scores, by which queries are selected, have to be for an object's class:
    `uncertainty_minimal` the overlap with the object, `vanilla` 1. Swept by rtdetr/table4."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        weights = (self.cls_weight, self.bbox_weight, self.giou_weight, self.alpha, self.gamma)
        if min(weights) < 0:
            raise ValueError("cls_, bbox_ and giou_weight, alpha and gamma must not be negative")


@dataclass(frozen=True)
class RTDETRConfig(Built):
    """Everything that makes one RT-DETR; the defaults are those of the published R50."""

    makes: ClassVar[str] = "detectors.rtdetr.detector:RTDETR"
    kind: ClassVar[str] = "detectors.rtdetr.detector.RTDETRConfig"
    size_divisor: ClassVar[int] = 32

    backbone: PResNetConfig | HGNetv2Config | CSPNeXtConfig = presnet.R50
    """Makes features of strides 8, 16 and 32. Swept by rtdetr/table2 and rtdetr/v1_hgnetv2."""
    neck: HybridEncoderConfig = HybridEncoderConfig()
    """Encodes and fuses the features."""
    head: RTDETRHeadConfig = RTDETRHeadConfig()
    """Selects queries and decodes them."""
    matcher: HungarianMatcher = HungarianMatcher()
    """Chooses, in training, the query that has to find each object."""
    criterion: RTDETRCriterionConfig = RTDETRCriterionConfig()
    """Weighs the losses."""
    postprocess: TopKConfig = TopKConfig()
    """Turns predictions into detections."""
    num_classes: int = 80
    """Object classes; follows the data set."""
    input: InputConfig = InputConfig(resize="stretch")
    """What the input looks like."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        self.input.check_size(self.size_divisor)
        if self.num_classes < 1:
            raise ValueError("num_classes must be at least 1")


def _variant(
    backbone: PResNetConfig | HGNetv2Config,
    neck: HybridEncoderConfig,
    *,
    num_layers: int = 6,
    layers_used: int = 0,
) -> RTDETRConfig:
    head = RTDETRHeadConfig(num_layers=num_layers, layers_used=layers_used)
    return RTDETRConfig(backbone=backbone, neck=neck, head=head)


_SLIM = HybridEncoderConfig(expand_ratio=0.5)
_WIDE = HybridEncoderConfig(hidden_dim=384, feedforward_dim=2048)

R18 = _variant(presnet.R18, _SLIM, num_layers=3)
R34 = _variant(presnet.R34, _SLIM, num_layers=4)
R50_M = _variant(presnet.R50, _SLIM, layers_used=3)
R50 = _variant(presnet.R50, HybridEncoderConfig())
R101 = _variant(presnet.R101, _WIDE)
HGNETV2_L = _variant(hgnetv2.L, HybridEncoderConfig())
HGNETV2_X = _variant(hgnetv2.X, _WIDE)

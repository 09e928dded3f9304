"""How the keys of RT-DETR's released weights become ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import torch

from detectors.interface import WeightsError

DROPPED = ("encoder.pos_embed", "decoder.anchors", "decoder.valid_mask", "anchors", "valid_mask")
"""Prefixes of keys, without `model.`, that are left out: these follow from the input's size."""

RENAMES = [
    (r"^model\.", r""),
    (r"\.convolution\.", r".conv."),
    (r"\.normalization\.", r".norm."),
    # ResNet: upstream, then Hugging Face
    (r"^backbone\.conv1\.conv1_1\.", r"backbone.stem.0."),
    (r"^backbone\.conv1\.conv1_2\.", r"backbone.stem.1."),
    (r"^backbone\.conv1\.conv1_3\.", r"backbone.stem.2."),
    (r"^backbone\.res_layers\.(\d+)\.blocks\.", r"backbone.stages.\1."),
    (r"\.branch2a\.", r".conv1."),
    (r"\.branch2b\.", r".conv2."),
    (r"\.branch2c\.", r".conv3."),
    (r"\.short\.conv\.(conv|norm)\.", r".short.\1."),
    (r"^backbone\.model\.embedder\.embedder\.", r"backbone.stem."),
    (r"^backbone\.model\.encoder\.stages\.(\d+)\.layers\.", r"backbone.stages.\1."),
    (r"\.layer\.0\.", r".conv1."),
    (r"\.layer\.1\.", r".conv2."),
    (r"\.layer\.2\.", r".conv3."),
    (r"\.shortcut\.(1\.)?", r".short."),
    # HGNetv2: upstream has the backbone alone, Hugging Face all
    (r"^(backbone\..*)\.bn\.", r"\1.norm."),
    (r"^(backbone\.stem\.stem2[ab]\.conv)\.1\.", r"\1."),
    (r"\.aggregation_squeeze_conv\.", r".aggregation.0."),
    (r"\.aggregation_excitation_conv\.", r".aggregation.1."),
    (r"^backbone\.model\.embedder\.", r"backbone.stem."),
    (r"^backbone\.model\.encoder\.", r"backbone."),
    # neck
    (r"^encoder\.(?:encoder|aifi)\.(\d+)\.layers\.", r"neck.intra.\1."),
    (r"^encoder_input_proj\.", r"neck.input_proj."),
    (r"^encoder\.", r"neck."),
    (r"\.bottlenecks\.(\d+)\.conv\.", r".blocks.\1.0."),  # of a deployed model
    (r"^neck\.lateral_convs\.", r"neck.lateral."),
    (r"^neck\.downsample_convs\.", r"neck.downsample."),
    (r"^neck\.fpn_blocks\.", r"neck.top_down."),
    (r"^neck\.pan_blocks\.", r"neck.bottom_up."),
    (r"\.bottlenecks\.(\d+)\.conv1\.", r".blocks.\1.dense."),
    (r"\.bottlenecks\.(\d+)\.conv2\.", r".blocks.\1.point."),
    (r"^(neck\.(?:top_down|bottom_up)\.\d+)\.conv1\.", r"\1.main."),
    (r"^(neck\.(?:top_down|bottom_up)\.\d+)\.conv2\.", r"\1.short."),
    (r"^(neck\.(?:top_down|bottom_up)\.\d+)\.conv3\.", r"\1.final."),
    # head
    (r"^decoder_input_proj\.", r"head.input_proj."),
    (r"^(decoder\.)?enc_output\.", r"head.selection.project."),
    (r"^(decoder\.)?enc_score_head\.", r"head.selection.score."),
    (r"^(decoder\.)?enc_bbox_head\.", r"head.selection.box."),
    (r"^(decoder\.)?denoising_class_embed\.", r"head.denoising_embed."),
    (r"^(decoder\.)?(dec_score_head|class_embed)\.", r"head.score_heads."),
    (r"^(decoder\.)?(dec_bbox_head|bbox_embed)\.", r"head.box_heads."),
    (r"^decoder\.(decoder\.)?", r"head."),
    (r"^head\.query_pos_head\.", r"head.query_position."),
    (r"^((?:neck|head)\.input_proj\.\d+)\.0\.", r"\1.conv."),
    (r"^((?:neck|head)\.input_proj\.\d+)\.1\.", r"\1.norm."),
    # transformer layers
    (r"\.self_attn\.o_proj\.", r".self_attn.out_proj."),
    (r"\.self_attn_layer_norm\.", r".norm1."),
    (r"\.encoder_attn_layer_norm\.", r".norm2."),
    (r"^(neck\..*)\.final_layer_norm\.", r"\1.norm2."),
    (r"^(head\..*)\.final_layer_norm\.", r"\1.norm3."),
    (r"\.(?:mlp\.)?fc([12])\.", r".linear\1."),
    (r"\.encoder_attn\.", r".cross_attn."),
    (r"\.cross_attn\.sampling_offsets\.", r".cross_attn.offsets."),
    (r"\.cross_attn\.attention_weights\.", r".cross_attn.weights."),
    (r"\.cross_attn\.(value|output)_proj\.", r".cross_attn.\1."),
]
"""The names of upstream and of Hugging Face, and ours, applied one after the other.

Hugging Face's are those of saved files and those that transformers 5 gives them in memory.
"""

MEAN, COUNTER = ".running_mean", ".num_batches_tracked"
DENOISING_EMBED = "head.denoising_embed.weight"


def translate(content: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """Return a state dict with our keys.

    Frozen normalisations have no counter of batches, and a detector may freeze others than the one
    whose weights these were: its counters are left out or start from zero. The embedding of
    denoising queries is left out where there are none.

    Args:
        content: a state dict with our keys, upstream's or those of Hugging Face's
            `RTDetrForObjectDetection`.
        wanted: the keys of the detector that takes the weights.

    Raises:
        WeightsError: two keys stand for the same tensor and hold different values.
    """
    ours: dict[str, Any] = {}
    for key, value in content.items():
        if key.removeprefix("model.").startswith(DROPPED):
            continue
        name = rename(key)
        if name in ours and not torch.equal(ours[name], value):
            raise WeightsError(f"{key}: differs from its copy, which has our name {name}")
        ours[name] = value
    return _fit(_join_projections(ours), wanted)


@cache
def rename(key: str) -> str:
    """Return our name of upstream's or Hugging Face's key."""
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _join_projections(state: Mapping[str, Any]) -> dict[str, Any]:
    """Join the projections of queries, keys and values, which Hugging Face keeps apart."""
    joined = dict(state)
    for key in state:
        match = re.fullmatch(r"(.*\.self_attn\.)q_proj\.(weight|bias)", key)
        if match is None:
            continue
        parts = [f"{match[1]}{letter}_proj.{match[2]}" for letter in "qkv"]
        if all(part in state for part in parts):
            joined[f"{match[1]}in_proj_{match[2]}"] = torch.cat([joined.pop(p) for p in parts])
    return joined


def _fit(state: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """Leave out what `wanted` has switched off, and add the counters that it alone has."""
    norms = {key.removesuffix(MEAN) for key in wanted if key.endswith(MEAN)}
    counters = {norm + COUNTER for norm in norms}
    optional = {*counters, DENOISING_EMBED} - set(wanted)
    fitted = {key: value for key, value in state.items() if key not in optional}
    for norm in norms:
        if norm + COUNTER in wanted and norm + MEAN in fitted:
            fitted.setdefault(norm + COUNTER, torch.tensor(0))
    return fitted

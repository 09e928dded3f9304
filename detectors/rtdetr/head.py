"""The head of RT-DETR: query selection and a decoder that refines the queries layer by layer."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from detectors.boxes import shares_to_boxes
from detectors.interface import QueryOutputs, fuse
from detectors.layers import ConvNormAct, start_with_rare_classes
from detectors.queries import Predictions
from detectors.rtdetr.attention import Sizes
from detectors.rtdetr.config import RTDETRHeadConfig
from detectors.rtdetr.decoder import (
    MLP,
    DecoderLayer,
    refine,
    start_without_moving,
)
from detectors.rtdetr.denoising import attention_mask
from detectors.rtdetr.queries import Noise, TrainingOutputs
from detectors.rtdetr.selection import QuerySelection, Selected


class RTDETRHead(nn.Module):
    """Turn the cells that look most like objects into queries, and refine these layer by layer.

    Source: RT-DETR, arXiv:2304.08069v3, sec. 4.1 and 4.3; lyuwenyu/RT-DETR@068dfde
    rtdetr_pytorch/src/zoo/rtdetr/rtdetr_decoder.py (Apache-2.0), equal in numbers
    (tests/detectors/test_rtdetr_golden.py).
    Differs: the decoder's layers start with weights of their own, not as copies of one.
    """

    def __init__(
        self,
        config: RTDETRHeadConfig,
        in_channels: tuple[int, ...],
        strides: tuple[int, ...],
        num_classes: int,
    ) -> None:
        super().__init__()
        width, layers = config.hidden_dim, range(config.num_layers)
        self.stride = strides[0]
        self.num_queries = config.num_queries
        self.layers_used = config.layers_used or config.num_layers
        self.deployed = False
        self.input_proj = nn.ModuleList(
            ConvNormAct(channels, width, 1, activation="none") for channels in in_channels
        )
        self.selection = QuerySelection(width, num_classes)
        self.layers = nn.ModuleList(_layer(config, len(in_channels)) for _ in layers)
        self.query_position = MLP(4, 2 * width, width, 2)
        self.score_heads = nn.ModuleList(nn.Linear(width, num_classes) for _ in layers)
        self.box_heads = nn.ModuleList(MLP(width, width, 4, 3) for _ in layers)
        self.denoising_embed = (
            nn.Embedding(num_classes + 1, width, padding_idx=num_classes)
            if config.denoising.num_queries
            else None
        )
        self._initialise()

    def forward(self, features: list[Tensor]) -> QueryOutputs:
        """Predict with the layer that inference uses, and run none after it.

        Args:
            features: levels, fine to coarse, each [B, C, H, W].

        Returns:
            Boxes are float32.
        """
        memory, sizes = self._remember(features)
        queries, _, boxes = self._select(memory, sizes)
        for index in range(self.layers_used):
            queries = self._update(index, queries, boxes, memory, sizes)
            boxes = refine(boxes, self.box_heads[index](queries))
        logits = self.score_heads[self.layers_used - 1](queries)
        return QueryOutputs(logits, shares_to_boxes(boxes, self._input_size(sizes)))

    def selected(self, features: list[Tensor]) -> QueryOutputs:
        """Return the encoder's own predictions for the cells that become queries, best first.

        Args:
            features: levels, fine to coarse, each [B, C, H, W].
        """
        memory, sizes = self._remember(features)
        found = self._select(memory, sizes)
        return QueryOutputs(found.logits, shares_to_boxes(found.boxes, self._input_size(sizes)))

    def train_outputs(self, features: list[Tensor], noise: Noise | None) -> TrainingOutputs:
        """Predict with every layer, for the losses.

        A layer's boxes have gradients for that layer and for the one before it; neither reaches
        the selection, whose own predictions have gradients of their own.

        Args:
            features: levels, fine to coarse, each [B, C, H, W].
            noise: denoising queries; none for none.

        Source: look forward twice, DINO, arXiv:2203.03605, sec. 3.5.
        """
        memory, sizes = self._remember(features)
        selected = self.selection(memory, sizes, self.num_queries, every_box=False)
        queries, boxes = self._start(selected, noise)
        mask = None if noise is None else attention_mask(noise, selected.content.shape[1])
        decoded = self._decode(queries, boxes, memory, sizes, mask)
        first = 0 if noise is None else noise.queries
        return TrainingOutputs(
            layers=Predictions(*(part[:, :, first:] for part in decoded)),
            encoder=Predictions(selected.logits[None], selected.boxes[None]),
            denoising=noise and Predictions(*(part[:, :, :first] for part in decoded)),
        )

    def fuse(self) -> RTDETRHead:
        """Return itself with all that only training needs taken out, and with less to compute."""
        used = self.layers_used
        self.layers, self.box_heads = self.layers[:used], self.box_heads[:used]
        self.score_heads = self.score_heads[:used]
        for index in range(used - 1):
            self.score_heads[index] = nn.Identity()
        self.denoising_embed = None
        self.deployed = True
        fuse(self)
        return self

    def _remember(self, features: list[Tensor]) -> tuple[Tensor, Sizes]:
        """Return the cells of all levels, [B, N, D], and the size of each level."""
        levels = [project(x) for project, x in zip(self.input_proj, features, strict=True)]
        memory = torch.cat([x.flatten(2).transpose(1, 2) for x in levels], dim=1)
        return memory, [(x.shape[-2], x.shape[-1]) for x in levels]

    def _select(self, memory: Tensor, sizes: Sizes) -> Selected:
        """Choose, as inference does, the cells of memory [B, N, D] that become queries."""
        every_box = not self.deployed
        found: Selected = self.selection(memory, sizes, self.num_queries, every_box=every_box)
        return found

    def _input_size(self, sizes: Sizes) -> tuple[int, int]:
        """Return (h, w) of the input that levels of these sizes come from, pixels."""
        height, width = sizes[0]
        return height * self.stride, width * self.stride

    def _start(self, selected: Selected, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """Return content and boxes of denoising and then of matching queries, without gradients.

        The denoising embedding has its gradients, if only zeros, as processes that train together
        need.
        """
        content, boxes = selected.content.detach(), selected.boxes.detach()
        if self.denoising_embed is None:
            return content, boxes
        if noise is None:
            labels, first = torch.empty_like(boxes[:, :0, 0], dtype=torch.int64), boxes[:, :0]
        else:
            labels, first = noise.labels, noise.boxes.sigmoid()
        content = torch.cat((self.denoising_embed(labels), content), dim=1)
        return content, torch.cat((first, boxes), dim=1)

    def _decode(
        self, queries: Tensor, boxes: Tensor, memory: Tensor, sizes: Sizes, mask: Tensor | None
    ) -> Predictions:
        """Return the predictions of every layer for all queries."""
        logits, refined, previous = [], [], boxes
        for index, (score, box) in enumerate(zip(self.score_heads, self.box_heads, strict=True)):
            queries = self._update(index, queries, boxes, memory, sizes, mask)
            moves = box(queries)
            logits.append(score(queries))
            refined.append(refine(previous, moves))
            previous = refine(boxes, moves)  # the same boxes, with gradients of this layer alone
            boxes = previous.detach()
        return Predictions(torch.stack(logits), torch.stack(refined))

    def _update(
        self,
        index: int,
        queries: Tensor,
        boxes: Tensor,
        memory: Tensor,
        sizes: Sizes,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Run a decoder layer on queries [B, Q, D] at boxes [B, Q, 4]."""
        position = self.query_position(boxes.to(queries.dtype))
        updated: Tensor = self.layers[index](queries, position, boxes, memory, sizes, mask)
        return updated

    def _initialise(self) -> None:
        """Start with rare classes and with boxes that the decoder leaves where they are."""
        for score, box in zip(self.score_heads, self.box_heads, strict=True):
            start_with_rare_classes(cast(nn.Linear, score))
            start_without_moving(cast(MLP, box))
        for layer in self.query_position.layers:
            nn.init.xavier_uniform_(cast(nn.Linear, layer).weight)


def _layer(config: RTDETRHeadConfig, num_levels: int) -> DecoderLayer:
    return DecoderLayer(
        config.hidden_dim,
        config.num_heads,
        num_levels,
        num_points=config.num_points,
        feedforward_dim=config.feedforward_dim,
        dropout=config.dropout,
    )

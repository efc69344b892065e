"""What looks at the pyramid: pooling of boxes, heads of boxes, masks and semantics. Swin is not known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import log2

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import Conv2dNormActivation
from torchvision.ops.poolers import LevelMapper

from swinv2.precision import at_least_fp32

BOX_SIZE, MASK_SIZE = 7, 14
"""Cells on a side of a pooled box, for its class and for its mask, which comes out twice as large."""
SAMPLING_RATIO = 2
FUSION_LEVEL = 1
"""The pyramid's level at which the semantic branch brings all levels together."""
SEMANTIC_DEPTH = 4

_convolution = partial(Conv2dNormActivation, norm_layer=None)


class RoIPool(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision is not typed
    """Boxes to ``[boxes, C, size, size]``, each from the level that fits its size (arXiv 1612.03144, eq. 1).

    torchvision's RoIAlign with its defaults: two samples on a side of a cell, coordinates not shifted by half a pixel
    (``aligned=False``). Here strides are told: torchvision guesses them from the sizes of the first images it sees,
    before padding, and keeps the guess, which small images mislead.

    Args:
        levels: stride by the name of the map.
        size: cells on a side.
    """

    def __init__(self, levels: Mapping[str, int], size: int) -> None:
        super().__init__(list(levels), size, SAMPLING_RATIO)
        strides = list(levels.values())
        self.scales = [1 / stride for stride in strides]
        self.map_levels = LevelMapper(int(log2(strides[0])), int(log2(strides[-1])))

    def forward(self, maps: Mapping[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Pool boxes ``[N_i, 4]`` of each image i; in fp32 at least, the result in the maps' dtype."""
        dtype = next(iter(maps.values())).dtype
        wide = at_least_fp32(dtype)
        known = {name: x.to(wide) for name, x in maps.items()}
        return super().forward(known, [each.to(wide) for each in boxes], []).to(dtype)


class BoxHead(TwoMLPHead):  # type: ignore[misc]  # torchvision is not typed
    """Pooled boxes ``[N, C, 7, 7]`` to logits ``[N, classes + 1]``, background first, and deltas ``[N, 4 R]``.

    R is 1 if deltas serve every class, else ``classes + 1``, background's unused, as in torchvision.
    """

    def __init__(self, channels: int, features: int, classes: int, class_agnostic: bool) -> None:
        super().__init__(channels * BOX_SIZE**2, features)
        self.cls_score = nn.Linear(features, classes + 1)
        self.bbox_pred = nn.Linear(features, 4 * (1 if class_agnostic else classes + 1))
        # A fresh stage leaves boxes where they are, so that the next one has sensible boxes to learn from.
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both at least fp32."""
        x = super().forward(x)
        wide = at_least_fp32(x.dtype)
        return self.cls_score(x).to(wide), self.bbox_pred(x).to(wide)


class MaskHead(nn.Module):
    """Pooled boxes ``[N, C, 14, 14]`` to features; ``predictor`` makes logits ``[N, classes + 1, 28, 28]`` of them.

    Args:
        channels: of the maps and of the features.
        classes: without background, whose logits no one learns or reads, as in torchvision.
        flow: whether the features of the head before enter, through a 1x1 convolution and a ReLU (HTC).
    """

    def __init__(self, channels: int, classes: int, flow: bool) -> None:
        super().__init__()
        self.residual = _convolution(channels, channels, 1) if flow else None
        self.convs = MaskRCNNHeads(channels, (channels,) * 4, dilation=1)
        self.predictor = MaskRCNNPredictor(channels, channels, classes + 1)

    def forward(self, x: Tensor, previous: Tensor | None = None) -> Tensor:
        if self.residual is not None and previous is not None:
            x = x + self.residual(previous)
        return self.convs(x)


class SemanticHead(nn.Module):
    """All levels to one embedding ``[B, C, h, w]`` and logits ``[B, classes, h, w]`` (HTC, arXiv 1901.07518).

    ``h, w`` are those of the second level. Levels are resized to it, pass a 1x1 convolution each, are added up, and
    pass four 3x3 convolutions.
    """

    def __init__(self, channels: int, levels: int, classes: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(_convolution(channels, channels, 1) for _ in range(levels))
        self.convs = nn.Sequential(*(_convolution(channels, channels, 3) for _ in range(SEMANTIC_DEPTH)))
        self.embedding = _convolution(channels, channels, 1)
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        size = maps[FUSION_LEVEL].shape[-2:]
        x = sum(
            lateral(F.interpolate(level, size=size, mode="bilinear", align_corners=True))
            for lateral, level in zip(self.laterals, maps, strict=True)
        )
        x = self.convs(x)
        return self.embedding(x), self.classifier(x)

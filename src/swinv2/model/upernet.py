"""UperNet (arXiv 1807.10221): pyramid pooling, top-down fusion and an auxiliary head over any backbone's maps.

The heads are those of mmsegmentation, with which the paper's ADE20K figures were made, and of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinv2.config import SwinConfig, did_you_mean
from swinv2.info import ModelInfo
from swinv2.model.features import SwinBackbone
from swinv2.model.native import Native


@dataclass(frozen=True, kw_only=True)
class UperNetConfig:
    """What the heads look like; the defaults are those of the published ADE20K recipes.

    Args:
        channels: Width of the pyramid, of the fusion and of the classifier's input.
        pool_bins: Sides of the grids that the last map is averaged to.
        dropout: Probability that a channel is dropped before a classifier.
        auxiliary_map: The map that the auxiliary head reads, 0 being the finest; null leaves this head out.
        auxiliary_channels: Width of the auxiliary head.
        auxiliary_convs: Its 3x3 convolutions.
        auxiliary_weight: Weight of its loss beside that of the main head.
    """

    channels: int = 512
    pool_bins: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1
    auxiliary_map: int | None = 2
    auxiliary_channels: int = 256
    auxiliary_convs: int = 1
    auxiliary_weight: float = 0.4

    def __post_init__(self) -> None:
        for name in ("channels", "auxiliary_channels", "auxiliary_convs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not a positive number: give 1 or more.")
        if not self.pool_bins or min(self.pool_bins) < 1:
            raise ValueError(f"pool_bins {self.pool_bins} are no sides of grids: (1, 2, 3, 6) are the published ones.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is outside [0, 1): 0.1 is the published one.")
        if self.auxiliary_weight < 0:
            raise ValueError(f"auxiliary_weight {self.auxiliary_weight} is negative: 0.4 is the published one.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON or YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UperNetConfig:
        """Build it from `to_dict`'s result, also after a round trip through JSON, which turns tuples to lists."""
        known = {field.name for field in fields(cls)}
        for name in data:
            if name not in known:
                raise ValueError(f"{name!r} is no field of UperNetConfig{did_you_mean(name, known)}.")
        values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in data.items()}
        return cls(**values)


class UperNet(nn.Module):
    """Backbone and heads, images ``[B, C_in, H, W]`` of any size to logits ``[B, num_classes, H, W]``.

    Args:
        backbone: Yields a list of maps ``[B, C, *grid]``, the finest first, and has their ``channels`` and ``strides``
            (`swinv2.model.SwinBackbone`).
        num_classes: Classes of every pixel.
        config: What the heads look like; by default the published ones.

    Attributes:
        heads: What they look like.
        head: See `PyramidHead`.
        auxiliary_head: See `ConvHead`; None where the configuration leaves it out.

    Raises:
        ValueError: the backbone tells no channels, is not of two axes, or lacks the map of the auxiliary head.
    """

    def __init__(self, backbone: Any, num_classes: int, config: UperNetConfig | None = None) -> None:
        super().__init__()
        self.heads = config = config or UperNetConfig()
        _check_backbone(backbone, config)
        if num_classes < 1:
            raise ValueError(f"{num_classes} classes leave nothing to tell apart: give the number of the data's.")
        self.num_classes = num_classes
        self.backbone = backbone
        self.head = PyramidHead(backbone.channels, num_classes, config)
        self.auxiliary_head: ConvHead | None = None
        if config.auxiliary_map is not None:
            self.auxiliary_head = ConvHead(backbone.channels[config.auxiliary_map], num_classes, config)
        init_heads(self)

    def forward(self, images: Tensor, with_auxiliary: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits of every pixel; with ``with_auxiliary``, which training needs, those of the auxiliary head as well.

        Raises:
            ValueError: ``with_auxiliary`` without an auxiliary head.
        """
        maps, size = self.backbone(images), images.shape[2:]
        logits = to_pixels(self.head(maps), self.backbone.strides[0], size)
        if not with_auxiliary:
            return logits
        number = self.heads.auxiliary_map
        if self.auxiliary_head is None or number is None:
            raise ValueError("this UperNet has no auxiliary head: set auxiliary_map, or ask for no auxiliary logits.")
        return logits, to_pixels(self.auxiliary_head(maps[number]), self.backbone.strides[number], size)


class Segmenter(UperNet, Native):
    """UperNet on the Swin Transformer, as files of ours hold it: ``config`` tells the backbone and the classes.

    Args:
        config: The architecture and the number of classes.
        head: Fields of `UperNetConfig`; those left out are the published ones.
    """

    kind = "segmenter"

    def __init__(self, config: SwinConfig, **head: Any) -> None:
        super().__init__(SwinBackbone(config), config.num_classes, UperNetConfig.from_dict(head))
        self.config = config
        self.info = ModelInfo()
        self.head_config = self.heads.to_dict()


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm that normalises by its running statistics where a channel has one value, which has no variance.

    So the map that is pooled to one bin takes a batch of one image; PyTorch's own raises there.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class ConvNormReLU(nn.Sequential):
    """A convolution that keeps the size, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        super().__init__(conv, BatchNorm(outputs), nn.ReLU())


class PyramidHead(nn.Module):
    """Maps, the finest first, to logits ``[B, num_classes, *grid]`` at the grid of the finest.

    The coarsest map sees its averages over each grid of ``pool_bins``; every finer one, brought to the same width, adds
    the one above it; then all are convolved, enlarged to the finest grid and fused.
    """

    def __init__(self, inputs: Sequence[int], num_classes: int, config: UperNetConfig) -> None:
        super().__init__()
        width = config.channels
        *finer, last = inputs
        self.bins = config.pool_bins
        self.pools = nn.ModuleList(ConvNormReLU(last, width, 1) for _ in self.bins)
        self.pool_fusion = ConvNormReLU(last + len(self.bins) * width, width, 3)
        self.laterals = nn.ModuleList(ConvNormReLU(each, width, 1) for each in finer)
        self.outputs = nn.ModuleList(ConvNormReLU(width, width, 3) for _ in finer)
        self.fusion = ConvNormReLU(len(inputs) * width, width, 3)
        self.dropout = nn.Dropout2d(config.dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits, bilinear from here to the pixels."""
        *finer, last = maps
        levels = [self._pooled(last)]  # the coarsest first
        for lateral, x in zip(reversed(self.laterals), reversed(finer), strict=True):
            levels.append(lateral(x) + resized(levels[-1], x))
        top, *rest = levels
        outputs = [conv(x) for conv, x in zip(self.outputs, reversed(rest), strict=True)]
        finest = maps[0]
        return self.classifier(self.dropout(self.fusion(torch.cat([resized(x, finest) for x in (*outputs, top)], 1))))

    def _pooled(self, x: Tensor) -> Tensor:
        means = [pool(F.adaptive_avg_pool2d(x, bins)) for pool, bins in zip(self.pools, self.bins, strict=True)]
        return self.pool_fusion(torch.cat([x, *(resized(mean, x) for mean in means)], 1))


class ConvHead(nn.Module):
    """One map ``[B, inputs, *grid]`` to logits ``[B, num_classes, *grid]``: mmsegmentation's FCN head."""

    def __init__(self, inputs: int, num_classes: int, config: UperNetConfig) -> None:
        super().__init__()
        width = config.auxiliary_channels
        self.convs = nn.Sequential(
            *(ConvNormReLU(width if number else inputs, width, 3) for number in range(config.auxiliary_convs))
        )
        self.dropout = nn.Dropout2d(config.dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(self.convs(x)))


def resized(x: Tensor, like: Tensor) -> Tensor:
    """``x`` at the grid of ``like``, bilinear; ``x`` itself where it is there already."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def to_pixels(logits: Tensor, stride: Sequence[int], size: Sequence[int]) -> Tensor:
    """Logits of tokens as those of ``size`` pixels: ``stride`` pixels a token, without those of the padding.

    A backbone pads at the end of an axis, so stretching to the size would move what lies below a token.
    """
    whole = [max(grid * step, pixels) for grid, step, pixels in zip(logits.shape[2:], stride, size, strict=True)]
    enlarged = F.interpolate(logits, whole, mode="bilinear", align_corners=False)
    return enlarged[..., : size[0], : size[1]]


def init_heads(model: UperNet) -> None:
    """Convolutions as He et al. (fan out), classifiers from a normal of 0.01, biases 0, norms 1: mmsegmentation's."""
    for head in (model.head, model.auxiliary_head):
        if head is None:
            continue
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(head.classifier.weight, std=0.01)


def _check_backbone(backbone: Any, config: UperNetConfig) -> None:
    if not hasattr(backbone, "channels") or not hasattr(backbone, "strides"):
        raise ValueError(
            f"a {type(backbone).__name__} does not tell the channels and strides of its maps: give a SwinBackbone, as "
            "create_model(name, features_only=True) makes one."
        )
    strides = list(backbone.strides)
    if any(len(stride) != 2 for stride in strides):
        raise ValueError(f"UperNet is for images, but the backbone's strides are {strides}: give one of two axes.")
    if strides != sorted(strides):
        raise ValueError(
            f"the maps have strides {strides}: name the backbone's stages from the finest to the coarsest."
        )
    if config.auxiliary_map is not None and not 0 <= config.auxiliary_map < len(strides):
        raise ValueError(
            f"auxiliary_map {config.auxiliary_map} is none of the backbone's {len(strides)} maps, counted from 0: "
            "choose another, or null for no auxiliary head."
        )

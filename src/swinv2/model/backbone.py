"""Swin Transformer, V1 and V2, for images and video: one module over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from swinv2.config import SwinConfig, WindowSpec, make_config
from swinv2.model.attention import WindowAttention
from swinv2.model.block import NORM_EPS, SwinBlock
from swinv2.model.init import init_weights
from swinv2.model.patch import PatchEmbed, PatchMerging


class Stage(nn.Module):
    """Patch merging (none in the first stage) and blocks, ``[B, *grid, C_in]`` to ``[B, *grid', C]``."""

    def __init__(self, config: SwinConfig, stage: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        self.merge = PatchMerging(config.dims[stage - 1], config) if stage else nn.Identity()
        self.blocks = nn.ModuleList(SwinBlock(config, stage, i, rate) for i, rate in enumerate(drop_paths))

    def forward(self, x: Tensor) -> Tensor:
        x = self.merge(x)
        for block in self.blocks:
            x = block(x)
        return x


class SwinTransformer(nn.Module):
    """Swin Transformer (arXiv 2111.09883; V1: arXiv 2103.14030) with an optional classification head.

    Takes any input size: maps are padded where they do not divide, and padding is never seen by attention.

    Attributes:
        config: the whole architecture.
        num_features: channels of the last map.
        strides: pixels per token of each stage, one number per axis.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features = config.num_features
        self.strides = config.strides
        self.patch_embed = PatchEmbed(config)
        rates = iter(torch.linspace(0.0, config.drop_path_rate, sum(config.depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            Stage(config, stage, [next(rates) for _ in range(depth)]) for stage, depth in enumerate(config.depths)
        )
        self.norm = nn.LayerNorm(config.num_features, eps=NORM_EPS)
        self.head = nn.Linear(config.num_features, config.num_classes) if config.num_classes else nn.Identity()
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` (pooled features ``[B, num_features]`` without a head) of ``[B, C_in,
        *size]``.
        """
        logits: Tensor = self.head(self.forward_features(x).flatten(2).mean(-1))
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised map of the last stage, ``[B, num_features, *grid]``, in channels-last memory."""
        features: Tensor = self.norm(self._stage_outputs(x)[-1])
        return features.movedim(-1, 1)

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Map of every stage as it leaves its last block, ``[B, C, *grid]`` each, in channels-last memory."""
        return [features.movedim(-1, 1) for features in self._stage_outputs(x)]

    def set_checkpointing(self, enabled: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them; changes no number."""
        for module in self.modules():
            if isinstance(module, SwinBlock):
                module.checkpointing = enabled

    def set_attention_backend(self, backend: str) -> None:
        """Run every block's attention on a backend of `swinv2.ops` by name, or on "auto"."""
        for module in self.modules():
            if isinstance(module, WindowAttention):
                module.backend = backend

    def _stage_outputs(self, x: Tensor) -> list[Tensor]:
        self._check_input(x)
        x, outputs = self.patch_embed(x), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def _check_input(self, x: Tensor) -> None:
        axes, channels = self.config.ndim, self.config.in_channels
        if x.ndim != axes + 2:
            raise ValueError(
                f"The input has shape {tuple(x.shape)}, but this model takes [B, {channels}, *{axes} sizes]."
            )
        if x.shape[1] != channels:
            raise ValueError(
                f"The input has {x.shape[1]} channels, but this model takes {channels}: convert it, or build the model "
                f"with in_channels={x.shape[1]}."
            )
        if 0 in x.shape[2:]:
            raise ValueError(f"The input has shape {tuple(x.shape)}, but every axis must have at least one pixel.")
        if not x.is_floating_point():
            raise ValueError(f"The input is {x.dtype}, but must be floating point: scale and normalise it first.")


def create_model(
    name: str, *, window_size: WindowSpec | None = None, image_size: int | Sequence[int] | None = None, **overrides: Any
) -> SwinTransformer:
    """Build a named model with fresh weights; ``swinv2.list_models()`` has the names.

    Args:
        name: such as "swinv2_tiny", "swin_base", "swinv2_video_small".
        window_size: one number, one per axis, or one entry per stage.
        image_size: resolution the weights are trained at, from which the trained windows follow. Any size can be fed.
        overrides: any other field of `SwinConfig`, such as ``num_classes=10`` or ``position_bias="table"``.

    Raises:
        ValueError: an unknown name or field, or a configuration that cannot be built.
    """
    return SwinTransformer(make_config(name, window_size=window_size, image_size=image_size, **overrides))

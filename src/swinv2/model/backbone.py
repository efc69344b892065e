"""Swin Transformer, V1 and V2, for images and video: one module over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, overload

from torch import Tensor, nn

from swinv2.config import SwinConfig, WindowSpec, make_config
from swinv2.model.block import NORM_EPS
from swinv2.model.features import OutIndices, SwinBackbone
from swinv2.model.hub import HubMixin
from swinv2.model.init import init_weights
from swinv2.model.native import Native
from swinv2.model.patch import PatchEmbed
from swinv2.model.stages import SwinStages, build_stages


class SwinTransformer(HubMixin, SwinStages, Native):
    """Swin Transformer (arXiv 2111.09883; V1: arXiv 2103.14030) with an optional classification head.

    Takes any input size: maps are padded where they do not divide, and padding is never seen by attention.

    Attributes:
        config: the whole architecture.
        info: class names, preprocessing and origin, as far as the weights' file tells them.
        num_features: channels of the last map.
        strides: pixels per token of each stage, one number per axis.
    """

    kind = "classifier"

    def __init__(self, config: SwinConfig) -> None:
        super().__init__(config, PatchEmbed(config), build_stages(config, config.num_stages))
        self.num_features = config.num_features
        self.strides = config.strides
        self.norm = nn.LayerNorm(config.num_features, eps=NORM_EPS)
        self.head = _head(config)
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
        """Map of every stage as it leaves its last block, ``[B, C, *grid]`` each, in channels-last memory.

        A look inside a classifier: the final norm and the head take no part, which DDP refuses in training. Models
        with another head train on `SwinBackbone`, which has no such parameters.
        """
        return [features.movedim(-1, 1) for features in self._stage_outputs(x)]

    def reset_head(self, num_classes: int) -> None:
        """Replace the head by a fresh one of ``num_classes`` (0: none); the names of the old classes go with it."""
        self.config = replace(self.config, num_classes=num_classes)
        self.info = replace(self.info, classes=())
        head = _head(self.config)
        init_weights(head)
        self.head = head.to(self.norm.weight)


def _head(config: SwinConfig) -> nn.Module:
    return nn.Linear(config.num_features, config.num_classes) if config.num_classes else nn.Identity()


@overload
def create_model(
    name: str,
    *,
    features_only: Literal[False] = False,
    frozen_stages: int = 0,
    window_size: WindowSpec | None = None,
    image_size: int | Sequence[int] | None = None,
    **overrides: Any,
) -> SwinTransformer: ...


@overload
def create_model(
    name: str,
    *,
    features_only: Literal[True],
    out_indices: OutIndices = None,
    out_norm: bool = False,
    frozen_stages: int = 0,
    window_size: WindowSpec | None = None,
    image_size: int | Sequence[int] | None = None,
    **overrides: Any,
) -> SwinBackbone: ...


@overload
def create_model(
    name: str,
    *,
    features_only: bool,
    out_indices: OutIndices = None,
    out_norm: bool = False,
    frozen_stages: int = 0,
    window_size: WindowSpec | None = None,
    image_size: int | Sequence[int] | None = None,
    **overrides: Any,
) -> SwinTransformer | SwinBackbone: ...


def create_model(
    name: str,
    *,
    features_only: bool = False,
    out_indices: OutIndices = None,
    out_norm: bool = False,
    frozen_stages: int = 0,
    window_size: WindowSpec | None = None,
    image_size: int | Sequence[int] | None = None,
    **overrides: Any,
) -> SwinTransformer | SwinBackbone:
    """Build a named model with fresh weights; ``swinv2.list_models()`` has the names.

    Args:
        name: such as "swinv2_tiny", "swin_base", "swinv2_video_small".
        features_only: a `SwinBackbone`, which returns maps of stages instead of logits.
        out_indices: the backbone's stages; None are all.
        out_norm: a norm on each of the backbone's maps; by default they come as timm's do, without.
        frozen_stages: see `SwinTransformer.freeze_stages`.
        window_size: one number, one per axis, or one entry per stage.
        image_size: resolution the weights are trained at, from which the trained windows follow. Any size can be fed.
        overrides: any other field of `SwinConfig`, such as ``num_classes=10`` or ``position_bias="table"``.

    Raises:
        ValueError: an unknown name or field, or a configuration that cannot be built.
    """
    config = make_config(name, window_size=window_size, image_size=image_size, **overrides)
    if features_only:
        return SwinBackbone(config, out_indices, out_norm=out_norm, frozen_stages=frozen_stages)
    if out_indices is not None or out_norm:
        raise ValueError("out_indices and out_norm choose a backbone's maps: pass features_only=True with them.")
    model = SwinTransformer(config)
    model.freeze_stages(frozen_stages)
    return model

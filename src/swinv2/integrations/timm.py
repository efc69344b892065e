"""timm's ``create_model`` finds our image models after ``import swinv2.integrations.timm``.

They are registered as ``swinv2lib_`` and our own name (``swinv2lib_swinv2_tiny``, ``swinv2lib_swin_base``), since timm
has its own ``swinv2_*`` and ``swin_*``. Maps are ``[B, C, H, W]`` everywhere, any input size is taken, and state dicts
are those of `SwinTransformer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from swinv2.config import VARIANTS, default_image_size, make_config
from swinv2.model.backbone import SwinTransformer
from swinv2.model.features import FeatureInfo, SwinBackbone
from swinv2.model.position_bias import PositionBias
from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD

PREFIX = "swinv2lib_"
"""What our names begin with in timm's registry."""

NAMES = {PREFIX + name: name for name, config in VARIANTS.items() if config.ndim == 2}
"""Registered names and our own; timm has no video models."""


class TimmSwin(SwinTransformer):
    """`SwinTransformer` with the methods that timm's training and feature code calls.

    Args:
        variant: one of our names, such as "swinv2_tiny".
        num_classes: classes of the head; 0 for none.
        in_chans: channels of the input.
        global_pool: "avg", or "" to keep the map (without a head).
        img_size: resolution the weights are trained at; any size can be fed.
        drop_rate: only 0; no published model drops out before its head.
        fields: any other field of `SwinConfig`, such as ``drop_path_rate`` or ``window_size``.

    Raises:
        ValueError: a field or value that the model does not have.
    """

    def __init__(
        self,
        variant: str,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        img_size: int | Sequence[int] | None = None,
        drop_rate: float = 0.0,
        **fields: Any,
    ) -> None:
        if drop_rate:
            raise ValueError(f"drop_rate is {drop_rate}, but Swin has no dropout: use drop_path_rate.")
        fields.update(num_classes=num_classes, in_channels=in_chans)
        super().__init__(make_config(variant, image_size=img_size, **fields))
        self.in_chans = in_chans
        self.head_hidden_size = self.num_features
        self.feature_info = FeatureInfo(self.config, tuple(range(self.config.num_stages))).info
        self.global_pool = _known_pool(global_pool, num_classes)

    @property
    def num_classes(self) -> int:
        """Classes of the head; 0 for none."""
        return self.config.num_classes

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]``; without a head pooled features ``[B, C]``, without pooling the map."""
        return self.forward_head(self.forward_features(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooling and head, from what `forward_features` returns; ``pre_logits`` leaves the head out."""
        pooled = x.flatten(2).mean(-1) if self.global_pool == "avg" else x
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh head of ``num_classes`` (0: none) in the place of the present one."""
        self.global_pool = _known_pool(self.global_pool if global_pool is None else global_pool, num_classes)
        self.reset_head(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Call `set_checkpointing` by timm's name."""
        self.set_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that decay would harm: position biases and logit scales."""
        biases = {id(p) for module in self.modules() if isinstance(module, PositionBias) for p in module.parameters()}
        return {name for name, p in self.named_parameters() if id(p) in biases or name.endswith("logit_scale")}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns by which timm numbers the layers, for layer-wise learning rates."""
        fine = [
            (r"^stages\.(\d+)\.merge", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^patch_embed", "blocks": r"^stages\.(\d+)" if coarse else fine}


def _known_pool(global_pool: str, num_classes: int) -> str:
    if global_pool not in ("avg", "") or (num_classes and not global_pool):
        raise ValueError(f"global_pool is {global_pool!r} with {num_classes} classes: use 'avg', or '' without a head.")
    return global_pool


def _entry_point(registered: str, variant: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        features = {"out_indices": None, "feature_cls": partial(SwinBackbone, out_norm=False)}
        return build_model_with_cfg(partial(TimmSwin, variant), registered, pretrained, feature_cfg=features, **kwargs)

    create.__name__, create.__doc__ = registered, f"`swinv2.create_model({variant!r})` for timm."
    return create


def _describe(variant: str) -> dict[str, Any]:
    return {
        "input_size": (3, *default_image_size(variant)),
        "num_classes": 1000,
        "pool_size": VARIANTS[variant].grids(default_image_size(variant))[-1],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "first_conv": "patch_embed.projection",
        "classifier": "head",
    }


default_cfgs = generate_default_cfgs({registered: _describe(variant) for registered, variant in NAMES.items()})
"""Where timm looks for what it should know of the models above; there are no published weights under these names."""

for _registered, _variant in NAMES.items():
    register_model(_entry_point(_registered, _variant))

"""One published set of weights as plain data: where it is, what it expects, what was reported. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from swinv2.config import Axes, SwinConfig, WindowSpec, make_config, trained_windows
from swinv2.info import ModelInfo
from swinv2.preprocessing import Preprocessing

Kind = Literal["timm", "transformers", "simmim", "torchvision", "github", "drive"]
NUM_CLASSES = {"none": 0, "in1k": 1000, "in22k": 21841, "k400": 400}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place that weights can be had from.

    Args:
        kind: who publishes them there; "drive" needs a browser.
        location: a repository id of the hub, or the URL of the file.
        file: the file in the repository; empty for a whole repository (weights and config.json). For a URL, its name.
    """

    kind: Kind
    location: str
    file: str = ""

    @property
    def url(self) -> str:
        """An address for a browser."""
        return self.location if self.location.startswith("https:") else f"https://huggingface.co/{self.location}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """Weights that somebody published.

    Args:
        name: in timm's style: architecture, window, resolution, then who trained it on what.
        variant: name in `swinv2.config.VARIANTS`.
        window: nominal window; one number, one per axis, or one per stage.
        image_size: resolution of the last training, frames first.
        first: window and resolution of the first training where they differ; they fix the trained windows.
        labels: what the head was trained on: in1k, in22k (21,841 classes), k400 (Kinetics-400), or none: no head.
        top1: accuracy in percent on the validation set of the labels (ImageNet-1K, Kinetics-400), with
            ``preprocessing``; None where none was reported.
        reported_by: who measured it: timm, microsoft or torchvision; empty with no figure.
        licence: SPDX identifier of the licence that the weights are published under.
        preprocessing: what images go through before the model.
        sources: where the weights are, the preferred place first.
        aliases: further names, such as torchvision's enum members.
        changes: fields of `SwinConfig` that differ from the variant's.
    """

    name: str
    variant: str
    window: WindowSpec
    image_size: Axes
    first: tuple[int, int] | None = None
    labels: str
    top1: float | None = None
    reported_by: str = ""
    licence: str
    preprocessing: Preprocessing
    sources: tuple[Source, ...]
    aliases: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def num_classes(self) -> int:
        """Outputs of the head; 0 for no head."""
        return NUM_CLASSES[self.labels]

    @property
    def window_size(self) -> tuple[Axes, ...]:
        """Window of each stage."""
        return self.config().window_size

    @property
    def trained_window_size(self) -> tuple[Axes, ...]:
        """Window of each stage at the first training."""
        return self.config().trained_window_size

    def config(self) -> SwinConfig:
        """The architecture, with the windows that the weights run at and were first trained at."""
        window, size = self.first or (self.window, self.image_size)
        config = make_config(
            self.variant, window_size=window, image_size=size, num_classes=self.num_classes, **self.changes
        )
        nominal = SwinConfig.from_dict({**config.to_dict(), "window_size": self.window})
        return replace(nominal, window_size=trained_windows(nominal, self.image_size))  # no window exceeds its map

    def info(self) -> ModelInfo:
        """What the record tells beside the architecture."""
        extra = {"weights": self.name, "licence": self.licence}
        return ModelInfo(preprocessing=self.preprocessing, source=self.sources[0].kind, extra=extra)


def num_parameters(config: SwinConfig) -> int:
    """How many parameters a model of this architecture has, counted without building it."""
    patch, neighbours = math.prod(config.patch_size), math.prod(config.merge_size)
    count = config.embed_dim * (config.in_channels * patch + 1 + 2)
    for stage, (dim, depth) in enumerate(zip(config.dims, config.depths, strict=True)):
        if stage:
            joined = neighbours * dim // 2
            count += joined * dim + 2 * (joined if config.merge_norm == "before" else dim)
        extra_norms = depth // config.extra_norm_interval if config.extra_norm_interval else 0
        count += depth * _block_parameters(config, stage) + extra_norms * 2 * dim
    return count + 2 * config.num_features + (config.num_features + 1) * config.num_classes


def _block_parameters(config: SwinConfig, stage: int) -> int:
    dim, heads, hidden = config.dims[stage], config.num_heads[stage], int(config.dims[stage] * config.mlp_ratio)
    attention = 4 * dim * dim + (4 if config.key_bias else 3) * dim
    attention += heads if config.attention_score == "cosine" else 0
    mlp = 2 * dim * hidden + hidden + dim
    norms = (4 if config.norm_placement == "sandwich" else 2) * 2 * dim
    if config.position_bias == "table":
        bias = heads * math.prod(2 * size - 1 for size in config.window_size[stage])
    else:
        bias = 512 * (config.ndim + 1 + heads)
    return attention + mlp + norms + bias

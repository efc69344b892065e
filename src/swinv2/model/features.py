"""The backbone: maps of chosen stages for detection, segmentation and whatever else has its own head.

Heads know three things of it: the maps ``[B, C, *grid]``, `SwinBackbone.channels` and `SwinBackbone.strides`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from swinv2.config import Axes, Stages, SwinConfig
from swinv2.model.block import NORM_EPS
from swinv2.model.stages import SwinStages, fresh_stages

OutIndices = int | Sequence[int] | None


class SwinBackbone(SwinStages):
    """Swin Transformer without a head, ``[B, C_in, *size]`` to a list of maps, one for each of ``out_indices``.

    Only what the maps need is built and run: no stage after the last one asked for, no head, no unused norm. So every
    parameter gets a gradient (frozen ones aside) and DDP needs no ``find_unused_parameters``. Parameters are called
    what they are in `SwinTransformer`, but for the norms of the outputs (``norms.{stage}``).

    Args:
        source: an architecture, for fresh weights; or a model whose patch embedding and stages are taken over, shared
            and not copied. The norms of the outputs are fresh in both cases (weight 1, bias 0), as in the published
            detection and segmentation recipes: the classifier's own norm served a pooled vector.
        out_indices: stages whose maps to return, in this order; 0 is the first, -1 the last, None are all; one number n
            stands for the last n, as in timm.
        out_norm: a LayerNorm on each map; without it, maps are as they leave the last block of a stage (timm's are).
        frozen_stages: see `freeze_stages`; None keeps what is frozen in ``source``.

    Attributes:
        out_indices: the stages, counted from 0.
        channels: channels of each map.
        strides: pixels per token of each map, one number per axis.
        feature_info: the same in timm's terms.

    Raises:
        ValueError: ``out_indices`` is empty, names a stage twice, or one that does not exist.
    """

    def __init__(
        self,
        source: SwinConfig | SwinStages,
        out_indices: OutIndices = None,
        *,
        out_norm: bool = True,
        frozen_stages: int | None = None,
    ) -> None:
        if not isinstance(source, SwinConfig | SwinStages):
            raise ValueError(
                f"A backbone is made of a SwinConfig or a model, not of {source!r}: "
                "create_model(name, features_only=True) takes a name."
            )
        indices = _resolve(out_indices, source.num_stages)
        count = max(indices) + 1
        body = fresh_stages(source, count) if isinstance(source, SwinConfig) else source
        config = dataclasses.replace(body.config, num_classes=0)
        super().__init__(config, body.patch_embed, body.stages[:count])
        self.info = dataclasses.replace(body.info, classes=())
        self.out_indices = indices
        self.channels: Axes = tuple(config.dims[i] for i in indices)
        self.strides: Stages = tuple(config.strides[i] for i in indices)
        self.feature_info = FeatureInfo(config, indices)
        self.norms = nn.ModuleDict({str(i): nn.LayerNorm(config.dims[i], eps=NORM_EPS) for i in indices if out_norm})
        self.norms.to(self.patch_embed.norm.weight)
        self.train(body.training)
        self.frozen_stages = min(body.frozen_stages, count)
        self.freeze_stages(self.frozen_stages if frozen_stages is None else frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps of `out_indices`, ``[B, C, *grid]`` each, in channels-last memory."""
        outputs = self._stage_outputs(x)
        return [self._norm(i, outputs[i]).movedim(-1, 1) for i in self.out_indices]

    def _norm(self, stage: int, x: Tensor) -> Tensor:
        return self.norms[str(stage)](x) if self.norms else x


class NamedMaps(nn.Module):
    """A backbone's list of maps as a dict "0", "1", ..., the form torchvision's pyramid and detectors take."""

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        return {str(number): x for number, x in enumerate(maps)}


class FeatureInfo:
    """What `SwinBackbone` returns, in the terms of timm's class of this name, for code that was written for it.

    Args:
        config: the architecture; ``info`` describes all of its stages, as timm's does.
        out_indices: the stages that are returned.
    """

    def __init__(self, config: SwinConfig, out_indices: Axes) -> None:
        self.out_indices = out_indices
        self.info: list[dict[str, Any]] = [
            {"num_chs": dim, "reduction": _one_number(stride), "module": f"stages.{i}", "index": i}
            for i, (dim, stride) in enumerate(zip(config.dims, config.strides, strict=True))
        ]

    def get(self, key: str, idx: OutIndices = None) -> Any:
        """Values of ``key`` for the stages ``idx``: those returned, if None; one value for a single number."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(self, keys: Sequence[str] | None = None, idx: OutIndices = None) -> Any:
        """The same for several keys (None: all of them), as dicts."""
        wanted = self.info[0].keys() if keys is None else keys
        if isinstance(idx, int):
            return {key: self.info[idx][key] for key in wanted}
        return [{key: self.info[i][key] for key in wanted} for i in (self.out_indices if idx is None else idx)]

    def channels(self, idx: OutIndices = None) -> Any:
        """Channels of the maps."""
        return self.get("num_chs", idx)

    def reduction(self, idx: OutIndices = None) -> Any:
        """Pixels per token of the maps: one number where all axes agree, else one per axis."""
        return self.get("reduction", idx)

    def module_name(self, idx: OutIndices = None) -> Any:
        """Names of the modules whose outputs the maps are."""
        return self.get("module", idx)

    def __getitem__(self, stage: int) -> dict[str, Any]:
        return self.info[stage]

    def __len__(self) -> int:
        return len(self.info)


def _one_number(stride: Axes) -> int | Axes:
    return stride[0] if len(set(stride)) == 1 else stride


def _resolve(out_indices: OutIndices, stages: int) -> Axes:
    """Stages from 0 on, in the order asked for."""
    if out_indices is None:
        return tuple(range(stages))
    if isinstance(out_indices, int):
        if not 1 <= out_indices <= stages:
            raise ValueError(
                f"out_indices={out_indices} asks for the last {out_indices} of {stages} stages: give an index per map, "
                f"such as (0, -1), or a number from 1 to {stages}."
            )
        return tuple(range(stages - out_indices, stages))
    given = tuple(out_indices)
    if not given or not all(isinstance(i, int) and -stages <= i < stages for i in given):
        raise ValueError(
            f"out_indices is {given}, but must name at least one stage, each from {-stages} to {stages - 1}."
        )
    resolved = tuple(i % stages for i in given)
    if len(set(resolved)) < len(resolved):
        raise ValueError(f"out_indices {given} names a stage twice (of {stages} stages): name each once.")
    return resolved

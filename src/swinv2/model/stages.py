"""Patch embedding and stages: what the classifier and the backbone share, freezing included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from swinv2.config import SwinConfig
from swinv2.info import ModelInfo
from swinv2.model.attention import WindowAttention
from swinv2.model.block import SwinBlock
from swinv2.model.init import init_weights
from swinv2.model.patch import PatchEmbed, PatchMerging
from swinv2.ops.dispatch import budget_bytes, check_backend


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


class SwinStages(nn.Module):
    """Base of the models: patch embedding and stages, which subclasses end in a head or in norms.

    Attributes:
        config: the whole architecture.
        info: class names, preprocessing and origin, as far as the weights' file tells them.
        frozen_stages: how many stages `freeze_stages` froze.
    """

    def __init__(self, config: SwinConfig, patch_embed: PatchEmbed, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.info = ModelInfo()
        self.frozen_stages = 0
        self.patch_embed = patch_embed
        self.stages = nn.ModuleList(stages)

    @property
    def num_stages(self) -> int:
        """Number of stages that are built."""
        return len(self.stages)

    def freeze_stages(self, stages: int) -> None:
        """Freeze the patch embedding and the first ``stages`` stages, and release what an earlier call froze beyond.

        Frozen parts have no gradients, run in evaluation mode (no drop path) whatever `train` says, and record nothing
        for a backward pass unless the input itself requires a gradient. Call it before an optimiser or DDP is made.

        Args:
            stages: 0 freezes nothing, not even the patch embedding.

        Raises:
            ValueError: the model does not have that many stages.
        """
        if not isinstance(stages, int) or not 0 <= stages <= self.num_stages:
            raise ValueError(f"{stages!r} stages cannot be frozen: this model has 0 to {self.num_stages} of them.")
        for part in self._frozen_parts():
            part.requires_grad_(True).train(self.training)
        self.frozen_stages = stages
        self._hold()

    def train(self, mode: bool = True) -> Self:
        """As usual, but for the frozen stages, which stay in evaluation mode and without gradients."""
        super().train(mode)
        self._hold()
        return self

    def set_checkpointing(self, enabled: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them; changes no number."""
        for module in self.modules():
            if isinstance(module, SwinBlock):
                module.checkpointing = enabled

    def set_attention_backend(
        self, backend: str, *, stages: Iterable[int] | None = None, budget_mb: float | None = None
    ) -> None:
        """Choose what runs the attention.

        Args:
            backend: name of a backend of `swinv2.ops`, or "auto".
            stages: whose blocks to change, counted from 0; None for all. The paper runs the first two "sequential".
            budget_mb: MiB that "sequential" may take at a time (`swinv2.window_attention`).

        Raises:
            ValueError: there is no such backend or stage, or it keeps to no budget.
        """
        check_backend(backend, budget_bytes(budget_mb))
        chosen = range(self.num_stages) if stages is None else list(stages)
        for number in chosen:
            if number not in range(self.num_stages):
                raise ValueError(f"There is no stage {number!r}: this model has stages 0 to {self.num_stages - 1}.")
        for number in chosen:
            for module in self.stages[number].modules():
                if isinstance(module, WindowAttention):
                    module.backend, module.budget_mb = backend, budget_mb

    def _hold(self) -> None:
        """Also after loaders that put new parameters in the place of frozen ones."""
        for part in self._frozen_parts():
            part.requires_grad_(False).eval()
            part.zero_grad()

    def _frozen_parts(self) -> list[nn.Module]:
        return [self.patch_embed, *self.stages[: self.frozen_stages]] if self.frozen_stages else []

    def _stage_outputs(self, x: Tensor) -> list[Tensor]:
        """Every stage's map ``[B, *grid, C]`` as it leaves its last block."""
        self._check_input(x)
        outputs, frozen = [], len(self._frozen_parts())
        for number, part in enumerate((self.patch_embed, *self.stages)):
            # Without gradients a block keeps its bias table and skips checkpointing.
            with torch.no_grad() if number < frozen and not x.requires_grad else nullcontext():
                x = part(x)
            outputs.append(x)
        return outputs[1:]

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


def build_stages(config: SwinConfig, count: int) -> list[Stage]:
    """The first ``count`` stages; drop path rates rise over all blocks of the configuration, built or not."""
    rates = iter(torch.linspace(0.0, config.drop_path_rate, sum(config.depths), device="cpu").tolist())
    return [Stage(config, stage, [next(rates) for _ in range(config.depths[stage])]) for stage in range(count)]


def fresh_stages(config: SwinConfig, count: int) -> SwinStages:
    """Patch embedding and the first ``count`` stages with fresh weights."""
    fresh = SwinStages(config, PatchEmbed(config), build_stages(config, count))
    init_weights(fresh)
    return fresh

"""Amplitudes on the main branch of a model, and what they are judged by (paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from swinv2.model.block import SwinBlock
from swinv2.model.stages import SwinStages

DEEP = {1: 0, 2: 1}
"""Stage, counted from 0, whose growth is told, by the number of stages; the third of more, as in the paper."""


@torch.inference_mode()
def amplitudes(body: SwinStages, images: Tensor) -> list[list[float]]:
    """Mean absolute value of what leaves each block, extra norm included, stage by stage.

    Args:
        body: any model's stages, in evaluation mode.
        images: ``[B, C, *size]``.
    """
    found: list[list[float]] = []
    hooks = []
    for stage in body.stages:
        own: list[float] = []
        found.append(own)

        def note(module: nn.Module, args: object, out: Tensor, own: list[float] = own) -> None:
            own.append(float(out.abs().mean(dtype=torch.float64)))

        hooks += [block.register_forward_hook(note) for block in stage.modules() if isinstance(block, SwinBlock)]
    try:
        body(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def growth(amplitude: Sequence[Sequence[float]]) -> float:
    """Amplitude of the last block of the deep stage over that of its first."""
    stage = amplitude[DEEP.get(len(amplitude), 2)]
    return stage[-1] / stage[0]


def extremes(amplitude: Sequence[Sequence[float]]) -> float:
    """Largest amplitude of any block over the smallest."""
    whole = [value for stage in amplitude for value in stage]
    return max(whole) / min(whole)

"""Where attention looks: probabilities within windows, and their rollout over a whole model.

Computed beside the operator, from the same geometry, since no backend keeps probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from swinv2.config import Axes
from swinv2.geometry import group_mask, layout, stand, window_groups, window_order
from swinv2.model.attention import MAX_LOG_SCALE, WindowAttention
from swinv2.model.stages import SwinStages
from swinv2.ops.windows import expand_bias, gather_windows, normalise


@dataclass(frozen=True)
class Looked:
    """Attention of one block on one image.

    Args:
        stage: counted from 0.
        grid: tokens on each axis.
        probabilities: ``[windows, heads, queries, keys]``, as many queries as keys in each window.
        tokens: ``[windows, N]``, which token of the grid stands at each place of a window; -1 for padding.
    """

    stage: int
    grid: Axes
    probabilities: Tensor
    tokens: Tensor

    def of_query(self, token: int) -> Tensor:
        """What each head's query at a token sees, ``[heads, *grid]``; 0 outside its window."""
        window, place = (int(index) for index in (self.tokens == token).nonzero()[0])
        real = self.tokens[window] >= 0
        seen = self.probabilities.new_zeros(self.probabilities.shape[1], prod(self.grid))
        seen[:, self.tokens[window][real]] = self.probabilities[window, :, place][:, real]
        return seen.view(-1, *self.grid)

    def back(self, weights: Tensor) -> Tensor:
        """Weights of the outputs' tokens ``[*grid]``, as weights of the inputs' tokens: heads averaged."""
        flat, received = weights.flatten(), weights.new_zeros(weights.numel() + 1)
        own = torch.where(self.tokens < 0, 0.0, flat[self.tokens.clamp_min(0)])
        sent = torch.einsum("wq,wqk->wk", own, self.probabilities.mean(1))
        received.index_add_(0, torch.where(self.tokens < 0, weights.numel(), self.tokens).flatten(), sent.flatten())
        return received[:-1].view_as(weights)


@torch.no_grad()
def look(body: SwinStages, image: Tensor) -> list[Looked]:
    """Attention of every block, in their order, on one image ``[1, C, *size]``; the model in evaluation mode."""
    found: list[Looked] = []
    hooks = []
    for number, stage in enumerate(body.stages):

        def note(module: nn.Module, args: tuple[Tensor, ...], number: int = number) -> None:
            assert isinstance(module, WindowAttention)
            found.append(attention_of(module, args[0], number))

        blocks = (module for module in stage.modules() if isinstance(module, WindowAttention))
        hooks += [module.register_forward_pre_hook(note) for module in blocks]
    try:
        body(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def attention_of(module: WindowAttention, x: Tensor, stage: int) -> Looked:
    """Probabilities of a module on its input ``[1, *grid, C]`` (paper, eqs. 1 and 2)."""
    grid = tuple(x.shape[1:-1])
    axes = layout(grid, module.window, module.shift)
    qkv: Any = module.qkv(x).unflatten(-1, (3, module.heads, -1))
    q, k, _ = gather_windows(qkv, axes).float().unbind(2)
    if module.logit_scale is None:
        q = q * q.shape[-1] ** -0.5
    else:
        q, k = normalise(q, module.logit_scale.clamp(max=MAX_LOG_SCALE).exp()), normalise(k)
    bias = expand_bias(module.position_bias(), module.window, tuple(axis.window for axis in axes))
    logits = torch.einsum("wqhd,wkhd->whqk", q, k) + bias
    first = 0
    for group in window_groups(axes):
        mask = group_mask(axes, group)
        if mask is not None:
            logits[first : first + group.windows].masked_fill_(~mask, -torch.inf)
        first += group.windows
    tokens = window_order(axes, 1).view(len(logits), -1)
    return Looked(stage, grid, logits.softmax(-1), tokens)


def rollout(looked: list[Looked], merge: Axes) -> Tensor:
    """Share of each token of the first stage in the mean of the last map, ``[*grid]``, which sums to 1.

    Attention rollout (arXiv 2005.00928) carried to windows: each block passes half of a token's weight on as it is and
    half by the mean of its heads, and patch merging spreads a weight evenly over the tokens that it merged.

    Args:
        looked: of every block, in their order.
        merge: tokens merged on each axis between stages.
    """
    last = looked[-1]
    weights = torch.full(last.grid, 1.0 / prod(last.grid))
    for number in range(len(looked) - 1, -1, -1):
        weights = 0.5 * weights + 0.5 * looked[number].back(weights)
        if number and looked[number - 1].stage != looked[number].stage:
            weights = _unmerged(weights, looked[number - 1].grid, merge)
    return weights / weights.sum()


def _unmerged(weights: Tensor, grid: Axes, merge: Axes) -> Tensor:
    """Weights of merged tokens over those that they were merged from; none for padding."""
    for axis, (size, times) in enumerate(zip(grid, merge, strict=True)):
        weights = weights.repeat_interleave(times, axis).narrow(axis, 0, size)
        last = size % times or times
        share = torch.full((size,), 1.0 / times)
        share[size - last :] = 1.0 / last
        weights = weights * stand(share, (axis,), len(grid))
    return weights

"""Window attention cut into pieces that fit a budget: some heads and queries at a time, and of those some windows.

Shape letters: W windows of a piece, N tokens of a window, Q of them as queries, H heads of a piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from swinv2.config import Axes
from swinv2.geometry import AxisLayout, group_mask, product, window_groups
from swinv2.ops.windows import expand_bias, window_indices


@dataclass(frozen=True)
class Cut:
    """How much is done at a time: ``rows`` are those of a window's first axis that query."""

    windows: int
    heads: int
    rows: int

    @classmethod
    def of(cls, run_window: Axes, heads: int, scores: int) -> Cut:
        """The largest pieces whose fp32 scores take at most ``scores`` bytes, or one row of one head's queries."""
        pairs = 4 * product(run_window) ** 2
        if pairs * heads <= scores:
            return cls(scores // (pairs * heads), heads, run_window[0])
        if pairs <= scores:
            return cls(1, scores // pairs, run_window[0])
        return cls(1, 1, max(1, scores * run_window[0] // pairs))


@dataclass(frozen=True)
class Block:
    """Heads and queries that share a bias: fp32 ``[H, Q, N]`` (fp64 for fp64), and the masks of its groups of windows,
    ``[Q, N]`` or None.
    """

    heads: slice
    first_row: int
    queries: slice
    bias: Tensor
    masks: list[Tensor | None]


def blocks(axes: tuple[AxisLayout, ...], bias: Tensor, window: Axes, cut: Cut) -> Iterator[Block]:
    """All queries and, for each, all heads."""
    run_window = tuple(axis.window for axis in axes)
    per_row, groups = product(run_window[1:]), list(window_groups(axes))
    for row in range(0, run_window[0], cut.rows):
        rows = min(cut.rows, run_window[0] - row)
        queries = slice(row * per_row, (row + rows) * per_row)
        masks = [group_mask(axes, group, bias.device, queries) for group in groups]
        for head in range(0, bias.shape[0], cut.heads):
            heads = slice(head, min(head + cut.heads, bias.shape[0]))
            yield Block(heads, row, queries, expand_bias(bias[heads], window, run_window, row, rows), masks)


def pieces(axes: tuple[AxisLayout, ...], qkv: Tensor, block: Block, cut: Cut) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens of each piece's windows, ``[W, N]`` with -1 for padding, and their bias, -inf where masked."""
    order, _ = window_indices(axes, qkv.shape[0], qkv)
    sizes = [qkv.shape[0] * group.windows for group in window_groups(axes)]
    for mask, windows in zip(block.masks, order.view(-1, block.bias.shape[-1]).split(sizes), strict=True):
        masked = block.bias if mask is None else torch.where(mask, block.bias, -torch.inf)
        for tokens in windows.split(cut.windows):
            yield tokens, masked
        del masked  # before the next one is made

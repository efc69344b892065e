"""Window attention cut into pieces that fit a budget: some heads and queries at a time, and of those some windows.

Shape letters: W windows of a piece, N tokens of a window, Q of them as queries, H heads of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from swinv2.config import Axes
from swinv2.geometry import AxisLayout, group_mask, layout, product, window_groups
from swinv2.ops.windows import expand_bias, window_indices
from swinv2.precision import at_least_fp32, is_emulated


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

    @classmethod
    def within(cls, job: Job, budget: int, scores: int, takes: Callable[[Job, Cut], int]) -> Cut:
        """The largest of pieces of ``scores``, a half of them, a quarter and so on that takes at most ``budget`` bytes,
        or what takes least where none does.
        """
        sizes = [scores >> halvings for halvings in range(scores.bit_length())]
        cuts = [cls.of(job.run_window, job.heads, size) for size in sizes]
        return next((cut for cut in cuts if takes(job, cut) <= budget), min(cuts, key=lambda cut: takes(job, cut)))


@dataclass(frozen=True)
class Job:
    """A call, as far as the memory of its pieces depends on it."""

    run_window: Axes
    windows: int
    masks: int
    tokens: int
    heads: int
    head_dim: int
    item: int
    """Bytes of an element of qkv."""
    compute: int
    """Bytes of an element in the products of the forward pass."""
    keeps_scores: bool
    """Whether the forward product writes its scores down, as it may anywhere but on a CPU."""

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: torch.dtype, window: Axes, device: str) -> Job:
        """The job of a qkv of ``shape`` ``[B, *grid, 3, heads, head_dim]``, shifted in the middle of a window."""
        axes = layout(shape[1:-3], window, tuple(w // 2 for w in window))
        return cls(
            run_window=tuple(axis.window for axis in axes),
            windows=shape[0] * product([axis.count for axis in axes]),
            masks=len(list(window_groups(axes))) - 1,
            tokens=product(shape[:-3]),
            heads=shape[-2],
            head_dim=shape[-1],
            item=dtype.itemsize,
            compute=at_least_fp32(dtype).itemsize if is_emulated(device, dtype) else dtype.itemsize,
            keeps_scores=device != "cpu",
        )

    def pairs(self, cut: Cut) -> int:
        """Bytes of a block's bias, ``[H, Q, N]`` in fp32 (fp64 for fp64)."""
        return cut.heads * self.queries(cut) * self.area * max(4, self.item)

    def queries(self, cut: Cut) -> int:
        """Q."""
        return self.area // self.run_window[0] * cut.rows

    def piece(self, cut: Cut) -> int:
        """Vectors of head_dim numbers that a piece's keys are, W N H."""
        return min(cut.windows, self.windows) * self.area * cut.heads

    @property
    def area(self) -> int:
        """N."""
        return product(self.run_window)

    def shared(self, cut: Cut) -> int:
        """Bytes of the windows' indices, and of the masks with what they are made from."""
        places = 8 * (self.windows * self.area + self.tokens)
        return places + (self.masks + 2 * (self.masks > 0)) * self.queries(cut) * self.area


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

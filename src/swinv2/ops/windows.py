"""Pieces that the backends share: rows gathered into windows and back, unit vectors, and the bias of a window's
pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from swinv2.config import Axes
from swinv2.geometry import AxisLayout, inverse_order, product, window_order
from swinv2.precision import at_least_fp32

NORM_EPS = 1e-6
"""Below this length a query or key is divided by it instead of by its norm, so that zero vectors have finite
gradients."""


def take_rows(x: Tensor, index: Tensor, gaps: bool) -> Tensor:
    """Rows of ``x`` at ``index``; where ``gaps`` says that some are negative, zeros there."""
    if not gaps:
        return x.index_select(0, index)
    return x.index_select(0, index.clamp_min(0)).masked_fill_((index < 0).view(-1, *[1] * (x.ndim - 1)), 0.0)


class _Take(torch.autograd.Function):
    """`take_rows`; ``inverse`` undoes ``index``, so its backward is the same gather."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, gaps: bool) -> Tensor:
        ctx.save_for_backward(index, inverse)
        ctx.gaps = gaps
        return take_rows(x, index, gaps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        index, inverse = ctx.saved_tensors
        return _Take.apply(grads[0], inverse, index, ctx.gaps), None, None, None


_kept: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}
_KEPT_AT_MOST = 16


def window_indices(axes: tuple[AxisLayout, ...], batch: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Token of each place in the windows (-1 for padding), and place of each token, on the device of ``like``."""
    if torch.compiler.is_compiling() or type(like) is not Tensor:  # traced and fake tensors must not be kept
        return _window_indices(axes, batch, like.device)
    key = (axes, batch, like.device)
    if key not in _kept:
        with torch.inference_mode(False):  # later calls may need gradients
            indices = _window_indices(axes, batch, like.device)
        if type(indices[0]) is not Tensor or (like.is_cuda and torch.cuda.is_current_stream_capturing()):
            return indices
        while len(_kept) >= _KEPT_AT_MOST:
            _kept.pop(next(iter(_kept)))
        _kept[key] = indices
    return _kept[key]


def _window_indices(axes: tuple[AxisLayout, ...], batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    order = window_order(axes, batch, device)
    return order, inverse_order(order, product([batch, *[axis.grid for axis in axes]]))


def gather_windows(x: Tensor, axes: tuple[AxisLayout, ...]) -> Tensor:
    """``[B, *grid, *rest]`` to ``[windows, N, *rest]``, group by group (`swinv2.geometry.window_order`); padding is
    0.
    """
    order, inverse = window_indices(axes, x.shape[0], x)
    rest = x.shape[1 + len(axes) :]
    rows = x.reshape(inverse.shape[0], -1)
    return _Take.apply(rows, order, inverse, has_padding(axes)).view(-1, product([axis.window for axis in axes]), *rest)


def scatter_windows(groups: Sequence[Tensor], batch: int, axes: tuple[AxisLayout, ...]) -> Tensor:
    """Undo `gather_windows` for the groups' outputs ``[windows, N, *rest]``, in order: ``[B, *grid, *rest]``."""
    rest = groups[0].shape[2:]
    rows = [group.reshape(group.shape[0] * group.shape[1], -1) for group in groups]
    order, inverse = window_indices(axes, batch, rows[0])
    out = _Take.apply(rows[0] if len(rows) == 1 else torch.cat(rows), inverse, order, has_padding(axes))
    return out.view(batch, *(axis.grid for axis in axes), *rest)


def normalise(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Vectors ``[..., heads, head_dim]`` at unit length (times ``scale`` ``[heads]``), computed in fp32 at least."""
    wide = x.to(at_least_fp32(x.dtype))
    factor = _unit_factor(wide, scale)
    scaled = wide * factor if wide is x or torch.is_grad_enabled() else wide.mul_(factor)
    return scaled.to(x.dtype)


def normalise_(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """`normalise`, over ``x`` itself where that is of the dtype of the result; not for gradients."""
    return x.mul_(_unit_factor(x, scale)) if x.dtype == at_least_fp32(x.dtype) else normalise(x, scale)


def _unit_factor(x: Tensor, scale: Tensor | None) -> Tensor:
    factor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(NORM_EPS).reciprocal()
    return factor if scale is None else factor * scale[:, None]


def expand_bias(table: Tensor, window: Axes, run_window: Axes, first: int = 0, count: int | None = None) -> Tensor:
    """Bias of (query, key) pairs of a window: ``[heads, *(2w-1)]`` to ``[heads, Q, N]``.

    The queries are those of ``count`` rows of the window's first axis from ``first`` on, all without it. A window that
    runs smaller than configured uses the centre of its table.
    """
    n, rows = len(run_window), run_window[0] if count is None else count
    for axis, (w, run) in enumerate(zip(window, run_window, strict=True), start=1):
        table = table.narrow(axis, w - run, 2 * run - 1)
    # Reversed, so that keys run forwards: entry (run - 1 - q) + k is the offset q - k.
    table = table.flip(tuple(range(1, n + 1)))
    for axis, run in enumerate(run_window[1:], start=2):
        table = table.unfold(axis, run, 1)
    # With the first axis beside the keys of the others, a query's keys are one run of memory: a window slides over it.
    table = table.flip(tuple(range(2, n + 1))).movedim(1, n).contiguous().unfold(n, run_window[0], 1)
    table = table.movedim((n, -1), (1, n + 1))
    rows_reversed = table.unbind(1)[::-1]
    return torch.stack(rows_reversed[first : first + rows], 1).flatten(1 + n).flatten(1, n)


def reduce_bias(pairs: Tensor, window: Axes, run_window: Axes, first: int = 0) -> Tensor:
    """Transpose of `expand_bias`, for gradients: ``[heads, Q, N]`` summed by offset to ``[heads, *(2w-1)]``."""
    n, rows = len(run_window), pairs.shape[1] // product(run_window[1:])
    grad = pairs.view(-1, rows, *run_window[1:], *run_window).flip(tuple(range(1 + n, 1 + 2 * n)))
    for axis in range(n, 0, -1):
        run = run_window[axis - 1]
        sizes = [*grad.shape[:-1]]
        sizes[axis] += run - 1
        grad = torch.ops.aten.unfold_backward(grad, sizes, axis, run, 1)
    outside = []
    for axis in range(n, 0, -1):
        before = window[axis - 1] - run_window[axis - 1] + (first if axis == 1 else 0)
        outside += [before, 2 * window[axis - 1] - 1 - before - grad.shape[axis]]
    return torch.nn.functional.pad(grad, outside)


def has_padding(axes: tuple[AxisLayout, ...]) -> bool:
    """Whether some window holds padding."""
    return sum([axis.pad for axis in axes]) > 0

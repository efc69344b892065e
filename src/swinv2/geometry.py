"""Windows on a grid, for any number of axes: padding, shifting, regions, relative offsets. Pure functions.

A map of ``grid`` tokens is padded at the *end* of each axis to a multiple of the window, then rolled by ``-shift``,
then cut into windows. So token ``t`` of window ``k`` on an axis is padded coordinate ``(k * window + t + shift) %
padded``, which is

- an ordinary token, or
- a *wrapped* one (coordinate < shift), which the roll brought beside tokens of the far end, or
- *padding* (coordinate >= grid).

These three tags per axis say everything about masks: two tokens of a window may attend to each other if their tags
agree on every axis and the key is not padding. Only the last windows of an axis (the last one, or two where the
padding is longer than ``window - shift``) hold anything but ordinary tokens, so windows fall into a few *groups* that
share one mask.

On an axis where the map is not larger than the window, the window is the map and nothing is shifted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swinv2.config import Axes

ORDINARY, WRAPPED, PADDING = 0, 1, 2


@dataclass(frozen=True)
class AxisLayout:
    """Windows along one axis: ``count`` windows of ``window`` tokens cover ``grid`` tokens and ``pad`` padding."""

    grid: int
    window: int
    shift: int

    @property
    def count(self) -> int:
        """Number of windows."""
        return ceil_div(self.grid, self.window)

    @property
    def padded(self) -> int:
        """Tokens after padding."""
        return self.count * self.window

    @property
    def pad(self) -> int:
        """Tokens of padding at the end."""
        return self.padded - self.grid

    @property
    def borders(self) -> int:
        """How many of the last windows hold wrapped tokens or padding: 0, 1 or 2."""
        if self.pad > self.window - self.shift:
            return 2
        return 1 if self.pad or self.shift else 0

    def coordinates(self, device: torch.device | None = None) -> Tensor:
        """Padded coordinate of each token, ``[count, window]``; below ``grid`` for real tokens."""
        position = torch.arange(self.padded, device=device) + self.shift
        return torch.where(position >= self.padded, position - self.padded, position).view(self.count, self.window)

    def places(self, device: torch.device | None = None) -> Tensor:
        """Place of each token among the windows' ``count * window``, ``[grid]``: undoes `coordinates`."""
        place = torch.arange(self.grid, device=device) - self.shift
        return torch.where(place < 0, place + self.padded, place)

    def all_tags(self, device: torch.device | None = None) -> Tensor:
        """Tags of every window, ``[count, window]``."""
        coordinates = self.coordinates(device)
        return (coordinates < self.shift) * WRAPPED + (coordinates >= self.grid) * PADDING

    def tags(self, from_end: int, device: torch.device | None = None) -> Tensor:
        """Tags of the window that is ``from_end`` windows before the end (0: the last), ``[window]``."""
        past_end = torch.arange(self.window, device=device) + self.shift - from_end * self.window - self.window
        return (past_end >= 0) * WRAPPED + ((past_end < 0) & (past_end >= -self.pad)) * PADDING

    def runs(self) -> list[tuple[int, int, int | None]]:
        """Runs of windows with equal tags: (first, stop, windows before the end), None where all are ordinary."""
        inner = self.count - self.borders
        runs: list[tuple[int, int, int | None]] = [] if inner == 0 else [(0, inner, None)]
        return runs + [(inner + i, inner + i + 1, self.borders - 1 - i) for i in range(self.borders)]


@dataclass(frozen=True)
class Group:
    """Windows that share one mask: a box of window indices, and where its border windows stand on each axis."""

    spans: tuple[tuple[int, int], ...]
    from_end: tuple[int | None, ...]

    @property
    def windows(self) -> int:
        """Number of windows in one map."""
        return product([stop - first for first, stop in self.spans])


def ceil_div(size: int, divisor: int) -> int:
    """Division that rounds up; nothing negative is divided, which ONNX would round towards zero."""
    return (size + divisor - 1) // divisor


def product(sizes: Iterable[int]) -> int:
    """Product of sizes that torch.compile may have made symbolic (`math.prod` is not traced)."""
    result = 1
    for size in sizes:
        result = result * size
    return result


def layout(grid: Axes, window: Axes, shift: Axes) -> tuple[AxisLayout, ...]:
    """Windows as they run on ``grid``: shrunk to the map, and then unshifted, where the map is not larger.

    Raises:
        ValueError: the numbers of axes differ, or a shift is not below its window.
    """
    if not len(grid) == len(window) == len(shift):
        raise ValueError(f"grid {grid}, window {window} and shift {shift} must have one number per axis each.")
    for w, s in zip(window, shift, strict=True):
        if not 0 <= s < w:
            raise ValueError(f"shift {shift} must be at least 0 and below window {window} on every axis.")
    return tuple(
        AxisLayout(g, g, 0) if g <= w else AxisLayout(g, w, s) for g, w, s in zip(grid, window, shift, strict=True)
    )


def whole_windows(grid: Axes, window: Axes, shift: Axes) -> tuple[AxisLayout, ...]:
    """Windows that are never shrunk: padding fills what a map lacks, and the shift is 0 there.

    Attention is the same as with `layout`, since offsets within a smaller map reach only the centre of the bias table.
    Sizes may be symbolic: nothing here compares them.
    """
    shifting: list[Any] = [torch.sym_min(1, ceil_div(g, w) - 1) for g, w in zip(grid, window, strict=True)]
    return tuple(AxisLayout(g, w, s * on) for g, w, s, on in zip(grid, window, shift, shifting, strict=True))


def stand(values: Tensor, places: Sequence[int], dims: int) -> Tensor:
    """View whose axes stand at ``places`` of ``dims`` axes, the others being 1, ready to broadcast."""
    shape = [1] * dims
    for place, size in zip(places, values.shape, strict=True):
        shape[place] = size
    return values.view(shape)


def fold_coordinates(coordinates: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Row-major index of coordinates (one broadcastable tensor per axis) in a box of ``sizes``."""
    index = coordinates[0]
    for along, size in zip(coordinates[1:], sizes[1:], strict=True):
        index = index * size + along
    return index


def window_groups(axes: tuple[AxisLayout, ...]) -> Iterator[Group]:
    """All windows, group by group; the inner ones, which need no mask, come first."""
    for runs in itertools.product(*(axis.runs() for axis in axes)):
        yield Group(tuple((first, stop) for first, stop, _ in runs), tuple(end for _, _, end in runs))


def group_mask(
    axes: tuple[AxisLayout, ...], group: Group, device: torch.device | None = None, queries: slice | None = None
) -> Tensor | None:
    """Which query may attend to which key in a group's windows, bool ``[Q, N]``; None where all may.

    The queries are those of the slice of a window's tokens, all without it. A padded query sees everything: its result
    is dropped, and a row without any key would give NaN.
    """
    if all(end is None for end in group.from_end):
        return None
    region = torch.zeros((), dtype=torch.long, device=device)
    padded = torch.zeros((), dtype=torch.bool, device=device)
    for i, (axis, end) in enumerate(zip(axes, group.from_end, strict=True)):
        tags = torch.full((axis.window,), ORDINARY, device=device) if end is None else axis.tags(end, device)
        tags = stand(tags, (i,), len(axes))
        region, padded = region * 3 + tags, padded | (tags == PADDING)
    region, padded = region.flatten(), padded.flatten()
    queries = slice(None) if queries is None else queries
    return ((region[queries, None] == region) & ~padded) | padded[queries, None]


def window_order(axes: tuple[AxisLayout, ...], batch: int, device: torch.device | None = None) -> Tensor:
    """Token that stands at each place of the windows, ``[places]``, into the flattened ``[batch, *grid]``; -1 for
    padding.

    Places run by group, image, window and token, so that a group's windows are contiguous.
    """
    coordinates = [axis.coordinates(device) for axis in axes]
    images = torch.arange(batch, device=device)
    return torch.cat([_group_order(axes, coordinates, group, images) for group in window_groups(axes)])


def _group_order(axes: tuple[AxisLayout, ...], coordinates: list[Tensor], group: Group, images: Tensor) -> Tensor:
    n = len(axes)
    index = images.view(-1, *(1,) * (2 * n))
    real = torch.ones_like(index, dtype=torch.bool)
    for i, (axis, along, (first, stop)) in enumerate(zip(axes, coordinates, group.spans, strict=True)):
        shape = [1] * (1 + 2 * n)
        shape[1 + i], shape[1 + n + i] = stop - first, axis.window
        along = along.narrow(0, first, stop - first).view(shape)
        index = index * axis.grid + along
        real = real & (along < axis.grid)
    return torch.where(real, index, -1).flatten()


def inverse_order(order: Tensor, tokens: int) -> Tensor:
    """Place of each of ``tokens`` tokens in an `window_order`, ``[tokens]``."""
    places = torch.arange(order.numel(), device=order.device)
    inverse = order.new_zeros(tokens + 1)
    return inverse.scatter(0, torch.where(order < 0, tokens, order), places)[:tokens]


def linear_coordinates(window: Axes, trained_window: Axes, device: torch.device | None = None) -> Tensor:
    """Offsets (query minus key) between a window's tokens over ``p - 1``, float32 ``[*(2w-1), axes]``; p = 1 divides
    by 1.

    p is the window at which the bias network was first trained, so a larger window reaches beyond -1 and 1.
    """
    ranges = [
        torch.arange(1 - w, w, dtype=torch.float32, device=device) / max(p - 1, 1)
        for w, p in zip(window, trained_window, strict=True)
    ]
    return torch.stack(torch.meshgrid(*ranges, indexing="ij"), dim=-1)


def log_coordinates(window: Axes, trained_window: Axes, device: torch.device | None = None) -> Tensor:
    """Log-spaced `linear_coordinates`, ``sign(x) log2(1 + |x|) / log2(8)`` of 8 times them, float32 ``[*(2w-1),
    axes]``.

    The paper's eq. 4 has the logarithm of raw offsets; the 8 and the normalisation are the released code's.
    """
    scaled = 8.0 * linear_coordinates(window, trained_window, device)
    return scaled.sign() * torch.log2(scaled.abs() + 1.0) / 3.0

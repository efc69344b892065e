"""Buffers that other libraries keep beside their parameters: what they tell of windows, and how to write them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from swinv2.checkpoint.layouts import Layout
from swinv2.checkpoint.mapping import numbers
from swinv2.config import Axes, SwinConfig
from swinv2.geometry import log_coordinates

LARGEST_COORDINATE = 10.0
"""No window has such a coordinate: it would be 2^27 tokens wide."""


def write_buffers(layout: Layout, config: SwinConfig) -> dict[str, Tensor]:
    """The buffers of ``layout``'s installed class, by name, so that a state dict loads with strict=True.

    The coordinates are normalised by the trained window, whatever window runs.
    """
    if not layout.written_buffers:
        return {}
    table = config.position_bias == "table"
    buffers = {}
    for i, depth in enumerate(config.depths):
        window, trained = config.window_size[i], config.trained_window_size[i]
        index = relative_position_index(window)
        for j in range(depth):
            attention = _attention(layout, config.num_stages, i, j)
            buffers[f"{attention}.relative_position_index"] = (index.flatten() if layout.flat_index else index).clone()
            if not table:
                buffers[f"{attention}.relative_coords_table"] = log_coordinates(window, trained)[None]
    return buffers


def relative_position_index(window: Axes) -> Tensor:
    """Row of a flattened offset table for each (query, key) of a window, int64 ``[N, N]``."""
    places = torch.stack(torch.meshgrid(*(torch.arange(w) for w in window), indexing="ij")).flatten(1)
    offsets = places[:, :, None] - places[:, None, :]
    index = torch.zeros(offsets.shape[1:], dtype=torch.int64)
    for offset, w in zip(offsets, window, strict=True):
        index = index * (2 * w - 1) + offset + w - 1
    return index


def stored_windows(
    state: Mapping[str, Tensor], layout: Layout, depths: Sequence[int], axes: int
) -> tuple[list[Axes | None], list[Axes | None]]:
    """Window and trained window of each stage, where tables and buffers of its first block tell them."""
    windows: list[Axes | None] = []
    trained: list[Axes | None] = []
    for i in range(len(depths)):
        attention = _attention(layout, len(depths), i, 0)
        coordinates = state.get(f"{attention}.relative_coords_table")
        table = state.get(f"{layout.block.format(**numbers(i, len(depths)))}.{layout.table}")
        index = state.get(f"{attention}.relative_position_index")
        if coordinates is not None and coordinates.ndim == axes + 2:
            windows.append(tuple((size + 1) // 2 for size in coordinates.shape[1:-1]))
            trained.append(_trained_window(coordinates))
        elif table is not None:
            windows.append(_table_window(table, index, axes, layout.own))
            trained.append(None)
        else:
            windows.append(None)
            trained.append(None)
    return windows, trained


def _attention(layout: Layout, stages: int, stage: int, block: int) -> str:
    """What a block calls its attention."""
    return f"{layout.block.format(**numbers(stage, stages, block))}.{layout.logit_scale.rpartition('.')[0]}"


def _trained_window(coordinates: Tensor) -> Axes | None:
    """P from the largest coordinate of each axis, ``sign(x) log2(1 + 8 (w-1)/(p-1)) / 3``."""
    window = [(size + 1) // 2 for size in coordinates.shape[1:-1]]
    if not coordinates.numel() or not bool((coordinates.abs() < LARGEST_COORDINATE).all()):  # damaged
        return None
    largest = coordinates.flatten(0, -2).amax(0).double().tolist()
    spans = [
        1.0 if w == 1 else 8 * (w - 1) / (2 ** (3 * c) - 1) if c > 0 else math.nan
        for w, c in zip(window, largest, strict=True)
    ]
    found = tuple(1 if w == 1 else round(span) + 1 for w, span in zip(window, spans, strict=True) if span == span)
    return found if len(found) == len(window) else None


def _table_window(table: Tensor, index: Tensor | None, axes: int, own: bool) -> Axes | None:
    """Window of a V1 table: the one whose index is stored beside it."""
    if own:
        return tuple((size + 1) // 2 for size in table.shape[1:])
    if index is None:
        return None
    fits = [
        window
        for window in _factorisations(len(table), axes)
        if prod(window) ** 2 == index.numel()
        and torch.equal(relative_position_index(window).flatten(), index.flatten().long())
    ]
    return fits[0] if len(fits) == 1 else None


def square_window(rows: int, axes: int) -> Axes | None:
    """The window of a V1 table with so many rows, if only one is square in its last two axes."""
    fits = [window for window in _factorisations(rows, axes) if len(set(window[-2:])) == 1]
    return fits[0] if len(fits) == 1 else None


def _factorisations(rows: int, axes: int) -> list[Axes]:
    """All windows of ``axes`` axes whose table has so many rows."""
    if axes == 1:
        return [((rows + 1) // 2,)] if rows % 2 else []
    odd = [size for size in range(1, rows + 1, 2) if rows % size == 0]
    return [((size + 1) // 2, *rest) for size in odd for rest in _factorisations(rows // size, axes - 1)]

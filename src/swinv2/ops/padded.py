"""Shifted-window attention for graphs whose sizes are unknown when they are made: torch.export and ONNX.

Standard operators only, and no question about a size, since every answer would become a condition on the input. So
every window is whole, also where the map is smaller (`swinv2.geometry.whole_windows`), and rows of ``head_dim``
numbers move by a computed index into ``[B, windows * heads, N, head_dim]`` and by another one back.

Places of padding hold a copy of some real token. No real query sees them, and what they yield is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from swinv2.config import Axes
from swinv2.geometry import AxisLayout, fold_coordinates, product, stand, whole_windows
from swinv2.ops.windows import expand_bias, normalise


def padded_attention(qkv: Tensor, bias: Tensor, window: Axes, shift: Axes, logit_scale: Tensor | None) -> Tensor:
    """See `swinv2.ops.window_attention`."""
    batch, (heads, head_dim) = qkv.shape[0], qkv.shape[-2:]
    axes = whole_windows(tuple(qkv.shape[1:-3]), window, shift)
    windows, tokens = product([axis.count for axis in axes]), product(window)
    rows = qkv.reshape(batch, product(qkv.shape[1:-1]), head_dim)
    index = _into_windows(axes, heads, qkv)
    q, k, v = (
        rows.index_select(1, index + part * heads).view(batch, windows * heads, tokens, head_dim) for part in range(3)
    )
    if logit_scale is not None:
        q, k = normalise(q, logit_scale.repeat(windows)[:, None]), normalise(k)
    logit_bias = _masked(expand_bias(bias, window, window), axes)
    if qkv.device.type != "cpu":
        logit_bias = logit_bias.to(qkv.dtype)  # only the CPU's kernels take a mask of another dtype
    out = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=logit_bias.flatten(0, 1)[None],
        scale=None if logit_scale is None else 1.0,
    )
    out = out.reshape(batch, windows * heads * tokens, head_dim).index_select(1, _out_of_windows(axes, heads, qkv))
    return out.view(*qkv.shape[:-3], heads, head_dim)


def _along(values: Sequence[Tensor], dims: int) -> list[Tensor]:
    """Each axis's ``[windows, window]`` numbers, placed for broadcasting to ``[*windows, *window]``."""
    return [stand(x, (i, dims + i), 2 * dims) for i, x in enumerate(values)]


def _into_windows(axes: Sequence[AxisLayout], heads: int, like: Tensor) -> Tensor:
    """Row of ``[*grid, 3, heads]`` at which the query of each of ``[windows, heads, N]`` stands, flattened."""
    coordinates = [axis.coordinates(like.device).clamp(max=axis.grid - 1) for axis in axes]
    token = fold_coordinates(_along(coordinates, len(axes)), [axis.grid for axis in axes])
    token = token.reshape(-1, 1, product([axis.window for axis in axes]))
    head = torch.arange(heads, device=like.device).view(1, heads, 1)
    return (token * 3 * heads + head).flatten()


def _out_of_windows(axes: Sequence[AxisLayout], heads: int, like: Tensor) -> Tensor:
    """Row of ``[windows, heads, N]`` at each of ``[*grid, heads]``, flattened."""
    places = [axis.places(like.device) for axis in axes]
    standing = [stand(place, (i,), len(axes)) for i, place in enumerate(places)]
    window = fold_coordinates(
        [p // axis.window for p, axis in zip(standing, axes, strict=True)], [axis.count for axis in axes]
    )
    token = fold_coordinates(
        [p % axis.window for p, axis in zip(standing, axes, strict=True)], [axis.window for axis in axes]
    )
    head = torch.arange(heads, device=like.device)
    n_tokens = product([axis.window for axis in axes])
    return ((window[..., None] * heads + head) * n_tokens + token[..., None]).flatten()


def _masked(pair_bias: Tensor, axes: Sequence[AxisLayout]) -> Tensor:
    """Bias of each window's pairs, ``[windows, heads, N, N]``, -inf where query and key stand in different regions.

    Padding is a region of its own, so that real queries do not see it, and its own queries see something.
    """
    tags = [axis.all_tags(pair_bias.device) for axis in axes]
    region = fold_coordinates(_along(tags, len(axes)), [3] * len(axes)).reshape(-1, pair_bias.shape[-1])
    visible = region[:, None, :, None] == region[:, None, None, :]
    return torch.where(visible, pair_bias, -torch.inf)

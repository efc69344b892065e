"""The oracle: shifted-window attention written to be read, not to be fast.

It gathers nothing, groups nothing and shares nothing with the other backends' geometry: it pads and rolls real
tensors, and decides from the coordinates of each pair of tokens whether they may see each other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from swinv2.config import Axes
from swinv2.ops.windows import NORM_EPS
from swinv2.precision import at_least_fp32


def reference_attention(qkv: Tensor, bias: Tensor, window: Axes, shift: Axes, logit_scale: Tensor | None) -> Tensor:
    """See `swinv2.ops.window_attention`; computes in fp32 (fp64 for fp64 input) and returns the input's dtype."""
    batch, grid, (_, heads, head_dim) = qkv.shape[0], tuple(qkv.shape[1:-3]), qkv.shape[-3:]
    axes = range(len(grid))
    run_window = tuple(min(w, g) for w, g in zip(window, grid, strict=True))
    run_shift = tuple(0 if g <= w else s for w, g, s in zip(window, grid, shift, strict=True))
    padded = tuple(-(-g // w) * w for g, w in zip(grid, run_window, strict=True))

    def partition(x: Tensor) -> Tensor:  # [B, *padded, ...] -> [B, windows, N, ...]
        x = torch.roll(x, [-s for s in run_shift], [1 + i for i in axes])
        split = [size for p, w in zip(padded, run_window, strict=True) for size in (p // w, w)]
        x = x.reshape(x.shape[0], *split, *x.shape[1 + len(grid) :])
        x = x.movedim([1 + 2 * i for i in axes], [1 + i for i in axes])
        return x.flatten(1 + len(grid), 2 * len(grid)).flatten(1, len(grid))

    pad = [0, 0] * 3 + [end for p, g in zip(reversed(padded), reversed(grid), strict=True) for end in (0, p - g)]
    compute = at_least_fp32(qkv.dtype)
    q, k, v = partition(F.pad(qkv.to(compute), pad)).movedim(3, 0).transpose(-2, -3)  # each [B, windows, heads, N, d]

    if logit_scale is None:
        logits = q @ k.mT * head_dim**-0.5
    else:
        cosine = F.normalize(q, dim=-1, eps=NORM_EPS) @ F.normalize(k, dim=-1, eps=NORM_EPS).mT
        logits = cosine * logit_scale.to(compute).view(heads, 1, 1)
    place = torch.cartesian_prod(*(torch.arange(w, device=qkv.device) for w in run_window)).view(-1, len(grid))
    offset = place[:, None] - place + torch.tensor(window, device=qkv.device) - 1  # query minus key
    strides = torch.tensor([math.prod(2 * w - 1 for w in window[i + 1 :]) for i in axes], device=qkv.device)
    logits = logits + bias.to(compute).flatten(1)[:, (offset * strides).sum(-1)]

    visible = _visible(grid, padded, run_shift, partition, qkv.device)
    probabilities = _softmax(logits.masked_fill(~visible[:, :, None], -torch.inf))
    out = (probabilities @ v).transpose(-2, -3).to(qkv.dtype)  # [B, windows, N, heads, d]
    out = out.reshape(batch, *(p // w for p, w in zip(padded, run_window, strict=True)), *run_window, heads, head_dim)
    out = out.movedim([1 + len(grid) + i for i in axes], [2 + 2 * i for i in axes]).reshape(
        batch, *padded, heads, head_dim
    )
    out = torch.roll(out, run_shift, [1 + i for i in axes])
    return out[(slice(None), *(slice(g) for g in grid))]


def _visible(grid, padded, shift, partition, device) -> Tensor:  # type: ignore[no-untyped-def]
    """Pairs that may see each other, ``[1, windows, N, N]``: the roll moved both or neither, and the key is real."""
    coordinates = torch.stack(torch.meshgrid(*(torch.arange(p, device=device) for p in padded), indexing="ij"), dim=-1)
    coordinates = partition(coordinates[None])  # [1, windows, N, axes]
    wrapped = coordinates < torch.tensor(shift, device=device)
    real = (coordinates < torch.tensor(grid, device=device)).all(-1)
    return (wrapped[:, :, :, None] == wrapped[:, :, None]).all(-1) & real[:, :, None]


def _softmax(logits: Tensor) -> Tensor:
    """Softmax whose rows without any key are 0, with gradients of 0."""
    blind = torch.isneginf(logits).all(-1, keepdim=True)
    return logits.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)

"""Shifted-window attention over PyTorch's scaled_dot_product_attention.

Tokens are gathered into windows once, row by row, with the shift in the index. Windows come group by group
(`swinv2.geometry`), so that only border groups add a mask, of one window's size, to the bias.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from swinv2.config import Axes
from swinv2.geometry import group_mask, layout, window_groups
from swinv2.ops.windows import expand_bias, gather_windows, normalise, scatter_windows


def sdpa_attention(qkv: Tensor, bias: Tensor, window: Axes, shift: Axes, logit_scale: Tensor | None) -> Tensor:
    """See `swinv2.ops.window_attention`."""
    axes = layout(tuple(qkv.shape[1:-3]), window, shift)
    q, k, v = gather_windows(qkv, axes).unbind(2)  # each [windows, N, heads, head_dim]
    if logit_scale is not None:
        q, k = normalise(q, logit_scale), normalise(k)
    scale = None if logit_scale is None else 1.0
    pair_bias = expand_bias(bias, window, tuple(axis.window for axis in axes))
    if qkv.device.type != "cpu":
        pair_bias = pair_bias.to(qkv.dtype)  # only the CPU's kernels take a mask of another dtype
    groups = list(window_groups(axes))
    sizes = [qkv.shape[0] * group.windows for group in groups]
    outputs = []
    for group, *parts in zip(groups, q.split(sizes), k.split(sizes), v.split(sizes), strict=True):
        mask = group_mask(axes, group, qkv.device)
        logit_bias = pair_bias if mask is None else pair_bias.masked_fill(~mask, -torch.inf)
        q_part, k_part, v_part = (part.transpose(1, 2) for part in parts)
        out = F.scaled_dot_product_attention(q_part, k_part, v_part, attn_mask=logit_bias[None], scale=scale)
        outputs.append(out.transpose(1, 2))
    return scatter_windows(outputs, qkv.shape[0], axes)

"""Window attention as a module: projections, logit scale and position bias around `swinv2.ops.window_attention`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from swinv2.config import SwinConfig
from swinv2.geometry import product
from swinv2.model.linear import Linear, in_parts, is_plain
from swinv2.model.position_bias import make_position_bias
from swinv2.ops import window_attention
from swinv2.ops.linear import linear

MAX_LOG_SCALE = math.log(1.0 / 0.01)
"""The paper's tau > 0.01: the logarithm of the logit scale is clamped from above only."""


class QKV(nn.Linear):
    """Projection to query, key and value, ``[..., C]`` to ``[..., 3C]``; without ``key_bias`` the key's third has no
    bias.
    """

    def __init__(self, dim: int, key_bias: bool) -> None:
        super().__init__(dim, 3 * dim, bias=key_bias)
        self.q_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.v_bias = None if key_bias else nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        bias: Tensor | None = self.bias
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        return linear(x, self.weight, bias)


class WindowAttention(nn.Module):
    """Multi-head self-attention within shifted windows, ``[B, *grid, C]`` to the same (paper, eqs. 1 and 2)."""

    def __init__(self, config: SwinConfig, stage: int, shifted: bool) -> None:
        super().__init__()
        dim, heads = config.dims[stage], config.num_heads[stage]
        self.heads = heads
        self.window = config.window_size[stage]
        self.shift = tuple(w // 2 if shifted else 0 for w in self.window)
        self.backend = "auto"
        self.budget_mb: float | None = None
        self.qkv = QKV(dim, config.key_bias)
        self.proj = Linear(dim, dim)
        self.position_bias = make_position_bias(config, stage)
        cosine = config.attention_score == "cosine"
        self.logit_scale = nn.Parameter(torch.full((heads,), math.log(10.0))) if cosine else None

    def forward(self, x: Tensor) -> Tensor:
        bias = self.position_bias()
        scale = None
        if self.logit_scale is not None:
            scale = self.logit_scale.to(bias.dtype).clamp(max=MAX_LOG_SCALE).exp()

        def attend(x: Tensor) -> Tensor:
            qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
            out = window_attention(qkv, bias, self.window, self.shift, scale, self.backend, self.budget_mb)
            projected: Tensor = self.proj(out.flatten(-2))
            return projected

        if is_plain(self.qkv, QKV) and is_plain(self.proj, Linear):
            return in_parts(attend, x, self.qkv.out_features * product(x.shape[1:-1]))
        return attend(x)

    def extra_repr(self) -> str:
        return f"window={self.window}, shift={self.shift}, heads={self.heads}, backend={self.backend!r}"

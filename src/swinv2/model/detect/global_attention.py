"""The layer of global self-attention that HTC++ puts on the last stage's output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_DIM = 32


class GlobalAttention(nn.Module):
    """Every token of a map attends to every other, ``[B, C, h, w]`` to the same shape.

    The papers (V1 and V2) name "an extra global self-attention layer" and give no details. This one is a pre-norm
    attention with a residual: LayerNorm, heads of 32 channels (more where 32 does not divide C), dot products, no
    position bias, projection. Weights start at a normal of 0.02.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_heads = next(n for n in range(max(1, channels // HEAD_DIM), 0, -1) if channels % n == 0)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        for layer in (self.qkv, self.proj):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Let tokens attend to those within ``sizes`` (height and width of each image's part of the map) only.

        So what padding a batch needs beyond an image's last token does not matter to it. None: all tokens count.
        """
        batch, channels, *grid = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm(tokens)).reshape(batch, -1, 3, self.num_heads, channels // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=_within(sizes, grid, x.device))
        y = self.proj(y.transpose(1, 2).flatten(2))
        return x + y.transpose(1, 2).reshape(x.shape)


def _within(sizes: Sequence[tuple[int, int]] | None, grid: Sequence[int], device: torch.device) -> Tensor | None:
    """Which keys count, ``[B, 1, 1, h * w]``; None if all do."""
    if sizes is None or all(list(size) == list(grid) for size in sizes):
        return None
    rows, columns = (torch.arange(length, device=device) for length in grid)
    masks = [((rows < height)[:, None] & (columns < width)).flatten() for height, width in sizes]
    return torch.stack(masks)[:, None, None]

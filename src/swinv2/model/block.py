"""The Swin block: two residual branches, attention and MLP, with the norm wherever the configuration places it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swinv2.config import NormPlacement, SwinConfig
from swinv2.model.attention import WindowAttention
from swinv2.model.linear import Linear, in_parts, is_plain, memory_is_free
from swinv2.ops.linear import linear

NORM_EPS = 1e-5

# Which of a branch's three possible norms exist: x -> after(x + drop_path(branch(body(before(x))))).
PLACEMENTS: dict[NormPlacement, tuple[str, ...]] = {
    "pre": ("before",),
    "sandwich": ("before", "branch"),
    "post": ("after",),
    "res_post": ("branch",),
}


class DropPath(nn.Module):
    """Zero a whole sample's branch with probability ``rate`` in training, and scale the others up to keep the mean."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = x.new_empty(x.shape[0], *(1,) * (x.ndim - 1)).bernoulli_(1.0 - self.rate)
        return x * keep.div_(1.0 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class Residual(nn.Module):
    """A branch and its way back to the main road, ``[B, *grid, C]`` to the same (paper, Figure 1 and Table 7)."""

    def __init__(self, body: nn.Module, dim: int, placement: NormPlacement, drop_path: float) -> None:
        super().__init__()
        self.body = body
        present = PLACEMENTS[placement]
        self.norm_before = nn.LayerNorm(dim, eps=NORM_EPS) if "before" in present else nn.Identity()
        self.norm_branch = nn.LayerNorm(dim, eps=NORM_EPS) if "branch" in present else nn.Identity()
        self.norm_after = nn.LayerNorm(dim, eps=NORM_EPS) if "after" in present else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.drop_path(self.norm_branch(self.body(self.norm_before(x))))
        reuse = memory_is_free() and branch.dtype == x.dtype  # the body's result is nobody else's
        out: Tensor = self.norm_after(branch.add_(x) if reuse else x + branch)
        return out


class MLP(nn.Module):
    """Two linear layers with exact GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        if not (is_plain(self.fc1, Linear) and is_plain(self.fc2, Linear)):
            replaced: Tensor = self.fc2(self.act(self.fc1(x)))
            return replaced
        return in_parts(self._layers, x.flatten(0, -2), self.fc1.out_features).view(x.shape)

    def _layers(self, x: Tensor) -> Tensor:
        hidden = linear(x, self.fc1.weight, self.fc1.bias, gelu=True)
        return linear(hidden, self.fc2.weight, self.fc2.bias)


class SwinBlock(nn.Module):
    """Block ``index`` of a stage, ``[B, *grid, C]`` to the same; odd blocks shift their windows."""

    def __init__(self, config: SwinConfig, stage: int, index: int, drop_path: float) -> None:
        super().__init__()
        dim, placement = config.dims[stage], config.norm_placement
        attention = WindowAttention(config, stage, shifted=index % 2 == 1)
        self.attention = Residual(attention, dim, placement, drop_path)
        self.mlp = Residual(MLP(dim, int(dim * config.mlp_ratio)), dim, placement, drop_path)
        interval = config.extra_norm_interval
        extra = interval > 0 and (index + 1) % interval == 0
        self.extra_norm = nn.LayerNorm(dim, eps=NORM_EPS) if extra else nn.Identity()
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = torch.utils.checkpoint.checkpoint(self._run, x, use_reentrant=False)
            return out
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        out: Tensor = self.extra_norm(self.mlp(self.attention(x)))
        return out

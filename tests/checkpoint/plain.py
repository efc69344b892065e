"""Swin V1 and V2 written down plainly: an independent definition to compare the library with.

It follows arXiv 2103.14030 and 2111.09883 with the constants of Microsoft's released code, names its parameters as
Microsoft's checkpoints do, and imports nothing of swinv2. It is for one image size, at which nothing has to be padded.

Shapes: B images, H x W tokens, C channels, n windows, t = w * w tokens of a window, h heads, d channels of a head.
"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Attention in shifted windows. V1: scaled dot product and a table; V2: cosine and a network of log offsets."""

    def __init__(self, version, dim, heads, window, trained, shift):
        super().__init__()
        self.version, self.heads, self.window, self.shift = version, heads, window, shift
        self.qkv = nn.Linear(dim, 3 * dim, bias=version == 1)
        self.proj = nn.Linear(dim, dim)
        if version == 1:
            self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        else:
            self.q_bias = nn.Parameter(torch.zeros(dim))
            self.v_bias = nn.Parameter(torch.zeros(dim))
            self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
            self.cpb_mlp = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False))
            offsets = torch.arange(1 - window, window) * 8 / max(trained - 1, 1)
            logs = offsets.sign() * torch.log2(offsets.abs() + 1) / math.log2(8)
            grid = torch.stack((logs[:, None].expand(-1, len(logs)), logs.expand(len(logs), -1)), dim=-1)
            self.register_buffer("relative_coords_table", grid[None])
        token = torch.arange(window * window)
        rows = token[:, None] // window - token // window + window - 1
        columns = token[:, None] % window - token % window + window - 1
        self.register_buffer("relative_position_index", rows * (2 * window - 1) + columns)

    def position_bias(self) -> Tensor:
        """[h, t, t]"""
        if self.version == 1:
            table = self.relative_position_bias_table
        else:
            table = 16 * torch.sigmoid(self.cpb_mlp(self.relative_coords_table).flatten(0, 2))
        return table[self.relative_position_index].permute(2, 0, 1)

    def split(self, x: Tensor) -> Tensor:
        """[B, H, W, ...] to [B, n, t, ...]"""
        w = self.window
        x = x.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3)
        return x.flatten(3, 4).flatten(1, 2)

    def join(self, x: Tensor, height: int, width: int) -> Tensor:
        """[B, n, t, C] to [B, H, W, C]"""
        w = self.window
        x = x.unflatten(2, (w, w)).unflatten(1, (height // w, width // w)).transpose(2, 3)
        return x.flatten(3, 4).flatten(1, 2)

    def may_see(self, height: int, width: int) -> Tensor:
        """[n, 1, t, t]: of the tokens that the shift brings into a window, those are neighbours that came round the
        same edges."""
        came_round = [torch.arange(size) >= size - self.shift for size in (height, width)]
        kind = 2 * came_round[0][:, None].long() + came_round[1].long()
        kind = self.split(kind[None])[0]
        return (kind[:, :, None] == kind[:, None, :])[:, None]

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, dim = x.shape
        x = self.split(torch.roll(x, (-self.shift, -self.shift), (1, 2)))
        bias = self.qkv.bias
        if self.version == 2:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        x = F.linear(x, self.qkv.weight, bias)
        q, k, v = x.unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # each [B, n, h, t, d]
        if self.version == 1:
            scores = q @ k.mT * (dim // self.heads) ** -0.5
        else:
            scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
            scores = scores * self.logit_scale.clamp(max=math.log(100)).exp()
        scores = scores + self.position_bias()
        scores = scores.masked_fill(~self.may_see(height, width), -torch.inf)
        x = (scores.softmax(-1) @ v).transpose(2, 3).flatten(3)
        return torch.roll(self.join(self.proj(x), height, width), (self.shift, self.shift), (1, 2))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """V1 normalises what goes into a branch, V2 what comes out of it; huge models have one more norm now and then."""

    def __init__(self, version, dim, heads, window, trained, shift, extra_norm):
        super().__init__()
        self.version = version
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(version, dim, heads, window, trained, shift)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        if extra_norm:
            self.enorm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        for norm, branch in ((self.norm1, self.attn), (self.norm2, self.mlp)):
            x = x + (branch(norm(x)) if self.version == 1 else norm(branch(x)))
        return self.enorm(x) if hasattr(self, "enorm") else x


class Merging(nn.Module):
    """Four neighbours become one token, column by column: above left, below left, above right, below right."""

    def __init__(self, version, dim):
        super().__init__()
        self.version = version
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim if version == 1 else 2 * dim)

    def gather(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to [B, H/2, W/2, 4C]"""
        return torch.cat((x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gather(x)
        return self.reduction(self.norm(x)) if self.version == 1 else self.norm(self.reduction(x))


class UnfoldMerging(Merging):
    """mmpretrain gathers the neighbours with nn.Unfold, which puts the four values of a channel side by side."""

    def gather(self, x: Tensor) -> Tensor:
        columns = nn.Unfold(kernel_size=2, stride=2)(x.permute(0, 3, 1, 2))
        return columns.mT.unflatten(1, (x.shape[1] // 2, x.shape[2] // 2))


class Stage(nn.Module):
    def __init__(self, blocks, downsample):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        if downsample is not None:
            self.downsample = downsample


class Swin(nn.Module):
    """The whole model. A stage whose map is not larger than the window has a window of the map's size, unshifted.

    Args:
        trained: window of each stage at which the bias network was first trained; None: the stage's own.
        masked: whether it has SimMIM's mask token.
    """

    def __init__(
        self, *, version, embed_dim, depths, num_heads, window, image_size, num_classes,
        trained=None, extra_norm_interval=0, masked=False, merging=Merging,
    ):  # fmt: skip
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, embed_dim, kernel_size=4, stride=4)
        self.patch_embed.norm = nn.LayerNorm(embed_dim)
        self.layers = nn.ModuleList()
        for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            dim, tokens = embed_dim * 2**i, image_size // (4 * 2**i)
            w = min(window, tokens)
            shifts = [0 if j % 2 == 0 or w == tokens else w // 2 for j in range(depth)]
            extras = [extra_norm_interval > 0 and (j + 1) % extra_norm_interval == 0 for j in range(depth)]
            p = w if trained is None else trained[i]
            blocks = [Block(version, dim, heads, w, p, s, e) for s, e in zip(shifts, extras, strict=True)]
            self.layers.append(Stage(blocks, merging(version, dim) if i + 1 < len(depths) else None))
        self.norm = nn.LayerNorm(dim)
        if num_classes:
            self.head = nn.Linear(dim, num_classes)
        if masked:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))

    def features(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, 3, height, width], and a mask of patches [B, H, W], to [B, H, W, C] of the last stage."""
        x = self.patch_embed.norm(self.patch_embed.proj(images).permute(0, 2, 3, 1))
        if mask is not None:
            x = torch.where(mask[..., None], self.mask_token[0, 0], x)
        for stage in self.layers:
            x = stage.blocks(x)
            x = stage.downsample(x) if hasattr(stage, "downsample") else x
        return self.norm(x)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.features(images).mean((1, 2))
        return self.head(pooled) if hasattr(self, "head") else pooled


class SimMIM(nn.Module):
    """Masked image modelling (arXiv 2111.09886): a 1x1 convolution and a pixel shuffle paint the masked patches."""

    def __init__(self, **fields):
        super().__init__()
        self.encoder = Swin(**{**fields, "num_classes": 0}, masked=True)
        stages = len(fields["depths"])
        stride, dim = 4 * 2 ** (stages - 1), fields["embed_dim"] * 2 ** (stages - 1)
        self.decoder = nn.Sequential(nn.Conv2d(dim, 3 * stride**2, kernel_size=1), nn.PixelShuffle(stride))

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        return self.decoder(self.encoder.features(images, mask).permute(0, 3, 1, 2))


def mmpretrain_names(state: dict[str, Tensor], version: int, prefix: str = "backbone.") -> dict[str, Tensor]:
    """A state dict of `Swin` with `UnfoldMerging` under the names of mmpretrain's SwinTransformer (V1) and
    SwinTransformerV2, which also puts the merging at the beginning of the next stage."""
    last = max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    moved = 0 if version == 1 else 1
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"^norm\.", f"norm{last}.", name)
        name = re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + moved}.downsample", name)
        for old, new in (
            ("layers.", "stages."), (".attn.", ".attn.w_msa."), (".mlp.fc1.", ".ffn.layers.0.0."),
            (".mlp.fc2.", ".ffn.layers.1."), (".enorm.", ".norm3."), ("patch_embed.proj.", "patch_embed.projection."),
        ):  # fmt: skip
            name = name.replace(old, new)
        renamed[name.replace("head.", "head.fc.") if name.startswith("head.") else prefix + name] = tensor
    return renamed

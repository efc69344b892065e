"""Patch embedding and patch merging, for any number of axes; both pad zeros at the end of an axis that does not
divide.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinv2.config import Axes, SwinConfig
from swinv2.geometry import ceil_div, fold_coordinates, product, stand
from swinv2.model.block import NORM_EPS
from swinv2.model.linear import Linear
from swinv2.ops.linear import product_dtype
from swinv2.precision import at_least_fp32, is_emulated, without_autocast

CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def pad_to_multiple(x: Tensor, multiple: Axes, first: int) -> Tensor:
    """Pad zeros at the end of the axes ``first, first + 1, ...`` to multiples; ``x`` itself where nothing is missing.

    A traced graph pads in any case, if by nothing, so that it serves every size.
    """
    missing = [ceil_div(size, m) * m - size for size, m in zip(x.shape[first:], multiple, strict=False)]
    if not torch.compiler.is_compiling() and not any(missing):
        return x
    after = x.ndim - first - len(multiple)
    return F.pad(x, [0, 0] * after + [end for amount in reversed(missing) for end in (0, amount)])


class PatchEmbed(nn.Module):
    """Image or clip ``[B, C_in, *size]`` to tokens ``[B, *grid, C]``: a convolution of stride = kernel, then
    LayerNorm.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.patch_size = patch
        self.projection = CONVOLUTIONS[config.ndim](config.in_channels, config.embed_dim, patch, patch)
        self.norm = nn.LayerNorm(config.embed_dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # always enough, and the convolution drops what is left over
            x = F.pad(x, [end for size in reversed(self.patch_size) for end in (0, size - 1)])
        else:
            x = pad_to_multiple(x, self.patch_size, first=2)
        if len(self.patch_size) in _CHANNELS_LAST:
            x = x.contiguous(memory_format=_CHANNELS_LAST[len(self.patch_size)])
        out: Tensor = self.norm(self._project(x).movedim(1, -1))
        return out

    def _project(self, x: Tensor) -> Tensor:
        dtype = product_dtype(x)
        if torch.compiler.is_exporting() or not is_emulated(x.device.type, dtype):
            projected: Tensor = self.projection(x)
            return projected
        with without_autocast(x.device):  # as `swinv2.ops.linear` does where half precision is slow
            convolve: Any = _FUNCTIONS[len(self.patch_size)]
            weight, bias = (parameter.to(at_least_fp32(dtype)) for parameter in self.projection.parameters())
            wide: Tensor = convolve(x.to(weight.dtype), weight, bias, self.patch_size)
            return wide.to(dtype)


class PatchMerging(nn.Module):
    """Merge neighbouring tokens and double the channels, ``[B, *grid, C]`` to ``[B, *ceil(grid / merge), 2C]``.

    Neighbours are concatenated with the first axis running fastest: (0,0), (1,0), (0,1), (1,1), as in every released
    model.
    """

    def __init__(self, dim: int, config: SwinConfig) -> None:
        super().__init__()
        self.merge_size = config.merge_size
        merged = dim * prod(config.merge_size)
        before = config.merge_norm == "before"
        self.norm_before = nn.LayerNorm(merged, eps=NORM_EPS) if before else nn.Identity()
        self.reduction = Linear(merged, 2 * dim, bias=False)
        self.norm_after = nn.Identity() if before else nn.LayerNorm(2 * dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        gather = _gathered_neighbours if torch.compiler.is_exporting() else _neighbours
        out: Tensor = self.norm_after(self.reduction(self.norm_before(gather(x, self.merge_size))))
        return out


def _neighbours(x: Tensor, merge: Axes) -> Tensor:
    """``[B, *grid, C]`` to ``[B, *ceil(grid / merge), prod(merge) * C]``, zeros beyond the map."""
    x = pad_to_multiple(x, merge, first=1)
    n = len(merge)
    for axis, size in enumerate(merge):
        x = x.unflatten(1 + 2 * axis, (x.shape[1 + 2 * axis] // size, size))
    return x.permute(0, *range(1, 2 * n, 2), *range(2 * n, 0, -2), 1 + 2 * n).flatten(1 + n)


def _gathered_neighbours(x: Tensor, merge: Axes) -> Tensor:
    """`_neighbours` by one computed index, which asks nothing about the sizes of an exported graph."""
    n, (batch, *grid, dim) = len(merge), x.shape
    merged = [ceil_div(size, m) for size, m in zip(grid, merge, strict=True)]
    along, real = [], torch.ones(1, dtype=torch.bool, device=x.device)
    for axis, (size, new, m) in enumerate(zip(grid, merged, merge, strict=True)):
        coordinate = stand(torch.arange(new * m, device=x.device).view(new, m), (axis, 2 * n - 1 - axis), 2 * n)
        along.append(coordinate.clamp(max=size - 1))
        real = real & (coordinate < size)
    index = fold_coordinates(along, grid).flatten()
    rows = x.reshape(batch, product(grid), dim).index_select(1, index)
    return torch.where(real.flatten()[:, None], rows, 0.0).view(batch, *merged, prod(merge) * dim)

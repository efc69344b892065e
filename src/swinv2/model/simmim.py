"""SimMIM pre-training (arXiv 2111.09886): paint the pixels of masked units from what the encoder sees of the rest.

One code path for images and clips. A mask says for each unit, a block of pixels, whether it is hidden; its shape alone
tells how large units are, so that they do not depend on the patch.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from swinv2.config import Axes, SwinConfig
from swinv2.geometry import stand
from swinv2.model.block import NORM_EPS
from swinv2.model.init import init_weights
from swinv2.model.native import Native
from swinv2.model.patch import CONVOLUTIONS, PatchEmbed
from swinv2.model.stages import SwinStages, build_stages

VARIANCE_EPS = 1e-6
COUNT_EPS = 1e-5

Windows = int | Axes | None
"""Pixels over which a target is normalised, one odd number or one per axis; None: targets are the pixels."""


class SimMIM(SwinStages, Native):
    """Encoder, mask token and decoder, ``[B, C_in, *size]`` and a mask ``[B, *units]`` to pixels ``[B, C_in, *size]``.

    The token stands for every patch of a masked unit, after the patch embedding and its norm; the decoder is a 1x1
    convolution to ``C_in * prod(stride)`` channels, then a pixel shuffle. Parameters of the encoder are called what
    they are in `SwinTransformer`, so that a file of this model starts a fine-tuning.

    Args:
        config: the encoder; its head is left out.

    Attributes:
        stride: pixels per token of the last map, which the decoder paints from that token.
    """

    kind = "simmim"

    def __init__(self, config: SwinConfig) -> None:
        config = replace(config, num_classes=0)
        super().__init__(config, PatchEmbed(config), build_stages(config, config.num_stages))
        self.stride = config.strides[-1]
        self.norm = nn.LayerNorm(config.num_features, eps=NORM_EPS)
        self.mask_token = fresh_mask_token(config)
        self.decoder = fresh_decoder(config)
        init_weights(self)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Paint every pixel, masked or not; in units of the normalised target where training normalises it.

        Raises:
            ValueError: the mask's units do not tile the images, or hold no whole number of patches.
        """
        self._check_input(images)
        patches = self.patches(unit_size(images, mask))
        x = self.patch_embed(images)
        x = torch.where(spread(mask, patches)[..., None], self.mask_token.to(x.dtype), x)
        for stage in self.stages:
            x = stage(x)
        painted = pixel_shuffle(self.decoder(self.norm(x).movedim(-1, 1)), self.stride)
        for axis, size in enumerate(images.shape[2:], start=2):
            painted = painted.narrow(axis, 0, size)
        return painted

    def patches(self, unit: Axes) -> Axes:
        """Patches in a unit of so many pixels, one number per axis; ValueError where it holds no whole number."""
        patch = self.config.patch_size
        if any(u % p for u, p in zip(unit, patch, strict=True)):
            raise ValueError(f"mask units of {unit} pixels hold no whole number of patches of {patch}: use a multiple.")
        return tuple(u // p for u, p in zip(unit, patch, strict=True))


def fresh_mask_token(config: SwinConfig) -> nn.Parameter:
    """``[embed_dim]``, from a normal of 0.02 as the released code draws it."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(config.embed_dim), std=0.02))


def fresh_decoder(config: SwinConfig) -> nn.Module:
    """The 1x1 convolution that paints ``strides[-1]`` pixels of each channel from a token."""
    return CONVOLUTIONS[config.ndim](config.num_features, config.in_channels * prod(config.strides[-1]), 1)


def pixel_shuffle(x: Tensor, stride: Axes) -> Tensor:
    """``[B, C * prod(stride), *grid]`` to ``[B, C, *grid * stride]``; in two axes that of `torch.nn.PixelShuffle`."""
    batch, channels, *grid = x.shape
    n = len(stride)
    x = x.reshape(batch, channels // prod(stride), *stride, *grid)
    x = x.permute(0, 1, *(axis for i in range(n) for axis in (2 + n + i, 2 + i)))
    return x.reshape(batch, -1, *(g * s for g, s in zip(grid, stride, strict=True)))


def unit_size(images: Tensor, mask: Tensor) -> Axes:
    """Pixels of a unit, one number per axis, of images ``[B, C, *size]`` and their mask ``[B, *units]``.

    Raises:
        ValueError: the mask is not boolean, or its units do not tile the images.
    """
    size, units = images.shape[2:], mask.shape[1:]
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask is {mask.dtype}, but must be boolean: True hides a unit.")
    fits = len(mask) == len(images) and len(units) == len(size) and 0 not in units
    if not fits or any(s % u for s, u in zip(size, units, strict=True)):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not divide images of shape {tuple(images.shape)} into units: "
            "give [B, *units] whose numbers divide the images' sizes."
        )
    return tuple(s // u for s, u in zip(size, units, strict=True))


def spread(mask: Tensor, times: Axes) -> Tensor:
    """``[B, *units]`` with every unit repeated along each axis: the mask of its patches or pixels."""
    for axis, repeats in enumerate(times, start=1):
        mask = mask.repeat_interleave(repeats, axis)
    return mask


def masked_loss(painted: Tensor, images: Tensor, mask: Tensor, target_window: Windows = 47) -> Tensor:
    """Mean absolute difference over masked pixels, ``sum(|difference| * mask) / (sum(mask) + 1e-5) / channels``.

    Args:
        painted: what `SimMIM` returns.
        images: ``[B, C, *size]``, what it was given.
        mask: ``[B, *units]``.
        target_window: see `normalised`.
    """
    hidden = spread(mask, unit_size(images, mask))[:, None]
    difference = (painted.float() - normalised(images, target_window)).abs()
    return (difference * hidden).sum() / (hidden.sum() + COUNT_EPS) / images.shape[1]


@torch.no_grad()
def normalised(images: Tensor, target_window: Windows) -> Tensor:
    """The target, fp32 ``[B, C, *size]``: each pixel less the mean of the window around it, over its deviation.

    Args:
        images: ``[B, C, *size]``.
        target_window: the window's pixels (the released models': 47 x 47), one odd number for every axis or one per
            axis; None leaves the pixels as they are, as SimMIM of V1 does.
    """
    if target_window is None:
        return images.float()
    mean, deviation = local_statistics(images, target_window)
    return ((images.double() - mean) / deviation).float()


@torch.no_grad()
def local_statistics(images: Tensor, target_window: int | Axes) -> tuple[Tensor, Tensor]:
    """Mean and ``sqrt(max(variance, 0) + 1e-6)``, unbiased, of each channel in the window around each pixel, fp64.

    Pixels outside an image do not count. In fp64, since the difference of squares loses what is left in flat areas.

    Raises:
        ValueError: a window is even, or has not as many numbers as there are axes.
    """
    windows = check_window(target_window, images.ndim - 2)
    mean, square = images.double(), images.double().square()
    count = torch.ones(1, dtype=torch.float64, device=images.device)
    for axis, window in enumerate(windows):
        mean, within = _running_mean(mean, 2 + axis, window)
        square, _ = _running_mean(square, 2 + axis, window)
        count = count * stand(within, (axis,), len(windows))
    variance = (square - mean.square()) * (count / (count - 1).clamp(min=1))
    return mean, (variance.clamp(min=0) + VARIANCE_EPS).sqrt()


def check_window(target_window: int | Axes, axes: int) -> Axes:
    """One odd number of pixels per axis; ValueError for anything else."""
    windows = (target_window,) * axes if isinstance(target_window, int) else tuple(target_window)
    if len(windows) != axes or any(window < 1 or window % 2 == 0 for window in windows) or prod(windows) == 1:
        raise ValueError(
            f"target window {target_window} is not an odd number of pixels (or {axes} of them, one per axis): 47 is "
            "the published one."
        )
    return windows


def _running_mean(x: Tensor, axis: int, window: int) -> tuple[Tensor, Tensor]:
    """Mean over the pixels within ``window // 2`` along an axis, and how many they are."""
    size, place = x.shape[axis], torch.arange(x.shape[axis], device=x.device)
    first, end = (place - window // 2).clamp(min=0), (place + window // 2 + 1).clamp(max=size)
    sums = torch.cat([torch.zeros_like(x.narrow(axis, 0, 1)), x.cumsum(axis)], axis)
    count = (end - first).double()
    total = sums.index_select(axis, end) - sums.index_select(axis, first)
    return total / stand(count, (axis,), x.ndim), count


@torch.no_grad()
def paint(images: Tensor, painted: Tensor, mask: Tensor, target_window: Windows = 47) -> Tensor:
    """Images whose masked units are the model's, for people: ``[B, C, *size]`` in the images' own units.

    A normalised target is mapped back by mean and deviation around each pixel of the true image, which a picture can
    know and the model does not.
    """
    hidden = spread(mask, unit_size(images, mask))[:, None]
    guess = painted.float()
    if target_window is not None:
        mean, deviation = local_statistics(images, target_window)
        guess = (guess * deviation + mean).float()
    return torch.where(hidden, guess, images)

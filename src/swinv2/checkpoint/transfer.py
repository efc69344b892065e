"""Weights of one configuration made to fit another: other windows, channels, classes, and clips instead of images."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from swinv2.config import Axes, SwinConfig

FREE = ("window_size", "trained_window_size", "in_channels", "num_classes", "drop_path_rate")
"""Fields that may differ between the weights and the model that takes them."""


def transfer(
    tensors: Mapping[str, Tensor],
    stored: SwinConfig,
    wanted: SwinConfig,
    class_indices: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Tensors of ``stored`` for a model of ``wanted``.

    Continuous biases extend to any window by themselves, from their trained window; tables are resized, images become
    clips, channels are summed or repeated, and a head of other classes is left out with a warning, so that the model
    keeps its fresh one.

    Args:
        tensors: native parameters.
        stored: the configuration they fit.
        wanted: the configuration they shall fit.
        class_indices: rows of the head to keep, in the new order; its length is the new number of classes.

    Raises:
        ValueError: the two differ in what weights cannot follow.
    """
    out = dict(tensors)
    _check(stored, wanted)
    if wanted.ndim > stored.ndim:
        out = inflate(out, wanted)
        stored = _inflated(stored, wanted)
    if wanted.in_channels != stored.in_channels:
        name = "patch_embed.projection.weight"
        out[name] = convert_channels(out[name], wanted.in_channels)
    if wanted.position_bias == "table":
        for name in [name for name in out if name.endswith("position_bias.table")]:
            window = wanted.window_size[int(name.split(".")[1])]
            out[name] = resize_table(out[name], window)
    return _head(out, stored, wanted, class_indices)


def _check(stored: SwinConfig, wanted: SwinConfig) -> None:
    image_to_video = stored.ndim == 2 and wanted.ndim == 3
    fixed = [field.name for field in dataclasses.fields(SwinConfig) if field.name not in FREE]
    for name in fixed:
        has, asked = getattr(stored, name), getattr(wanted, name)
        if image_to_video and name == "patch_size":
            asked = asked[1:]
        if image_to_video and name == "merge_size":
            asked = (*asked[1:],) if asked[0] == 1 else asked
        if has != asked:
            raise ValueError(
                f"The weights have {name} {has!r}, not {asked!r}: leave {name} out, or take other weights."
            )


def inflate(tensors: Mapping[str, Tensor], video: SwinConfig) -> dict[str, Tensor]:
    """An image model's parameters for clips: on a still clip the model gives the image model's features.

    The patch kernel is repeated over time and divided by its length; tables are repeated over the offsets in time, as
    for Video Swin (arXiv 2106.13230). The time column of a bias network's first layer is 0, so that it answers alike to
    all offsets in time too. A query then weighs equal keys of several frames equally, and their average is that of one
    frame: exactly, whatever the window along time, padded, shifted or not, for any whole number of patches.
    """
    out = dict(tensors)
    name, frames = "patch_embed.projection.weight", video.patch_size[0]
    out[name] = tensors[name][:, :, None].repeat_interleave(frames, 2) / frames
    for name, tensor in tensors.items():
        if name.endswith("position_bias.table"):
            offsets = 2 * video.window_size[int(name.split(".")[1])][0] - 1
            out[name] = tensor[:, None].repeat_interleave(offsets, 1)
        elif name.endswith("position_bias.mlp.0.weight"):
            out[name] = F.pad(tensor, (1, 0))
    return out


def _inflated(image: SwinConfig, video: SwinConfig) -> SwinConfig:
    """The configuration that inflated weights fit: the image's windows, and the clip's along time."""
    windows, trained = (
        tuple((v[0], *i) for i, v in zip(getattr(image, name), getattr(video, name), strict=True))
        for name in ("window_size", "trained_window_size")
    )
    return dataclasses.replace(
        image,
        patch_size=video.patch_size,
        merge_size=video.merge_size,
        window_size=windows,
        trained_window_size=trained,
    )


def convert_channels(kernel: Tensor, channels: int) -> Tensor:
    """A patch kernel ``[C, in, *patch]`` for another number of input channels.

    One channel: the sum, which answers to gray as the old kernel does to gray copied to all its channels. Otherwise the
    old channels in turn, scaled by old over new, so that a constant input keeps its size.
    """
    old = kernel.shape[1]
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    turn = torch.arange(channels, device=kernel.device) % old
    return kernel.index_select(1, turn) * (old / channels)


def resize_table(table: Tensor, window: Axes) -> Tensor:
    """V1's table ``[heads, *(2w-1)]`` at another window, bicubic along each axis (Microsoft's ``load_pretrained``)."""
    sizes = [2 * w - 1 for w in window]
    if list(table.shape[1:]) == sizes:
        return table
    wide = table.float()
    if len(sizes) == 2:
        return _bicubic(wide[None], sizes)[0].to(table.dtype)
    for axis, size in enumerate(sizes, start=1):
        lines = wide.movedim(axis, -1)
        flat = lines.reshape(1, prod(lines.shape[:-1]), -1)
        resized = _bicubic(flat[:, None], [flat.shape[1], size])[0, 0]
        wide = resized.view(*lines.shape[:-1], size).movedim(-1, axis)
    return wide.to(table.dtype)


def _bicubic(maps: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bicubic", align_corners=False)


def _head(
    tensors: dict[str, Tensor], stored: SwinConfig, wanted: SwinConfig, class_indices: Sequence[int] | None
) -> dict[str, Tensor]:
    """Keep the head, take some of its rows, or leave it out."""
    if class_indices is not None:
        _check_indices(class_indices, stored, wanted)
        rows = torch.tensor(list(class_indices))
        return tensors | {name: tensors[name].index_select(0, rows) for name in ("head.weight", "head.bias")}
    if wanted.num_classes == stored.num_classes:
        return tensors
    if wanted.num_classes:
        had = f"a head of {stored.num_classes} classes" if stored.num_classes else "no head"
        warnings.warn(
            f"the weights have {had}: the head of {wanted.num_classes} classes starts anew and must be trained.",
            stacklevel=5,
        )
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}


def _check_indices(indices: Sequence[int], stored: SwinConfig, wanted: SwinConfig) -> None:
    if not stored.num_classes:
        raise ValueError("class_indices choose rows of a head, but these weights have no head.")
    outside = [index for index in indices if not 0 <= index < stored.num_classes]
    if outside:
        raise ValueError(f"class index {outside[0]} is outside the head of {stored.num_classes} classes.")
    if len(indices) != wanted.num_classes:
        raise ValueError(
            f"{len(indices)} class indices were given for num_classes {wanted.num_classes}: leave num_classes out."
        )

"""Labelled images, and clips of labelled videos, as samples and batches, for `swinv2.data.loading`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from swinv2.data.loading import Samples
from swinv2.data.sources.base import ImageSource
from swinv2.data.transforms import Transform


class Sample(NamedTuple):
    """One image [C, H, W], clip [C, T, H, W] or views of a video [V, C, T, H, W], and its label."""

    image: Tensor
    label: int


class Batch(NamedTuple):
    """Images or clips that could be read, and "NAME: reason" for each that could not; size 0 where none could."""

    images: Tensor  # [B, C, H, W], [B, C, T, H, W] or [B, V, C, T, H, W]; [0] in a batch of size 0
    labels: Tensor  # [B]
    indices: Tensor  # [B], rows in the source
    skipped: tuple[str, ...]
    seconds: float = 0.0  # that its images took in the process that read them
    epoch: int = 0


def labelled_images(source: ImageSource, transform: Transform, channels: int = 3, strict: bool = False) -> Samples:
    """A source's images, transformed, with their labels.

    Args:
        source: The images.
        transform: From a Pillow image to [C, H, W]; its only randomness is torch's.
        channels: Channels that the transform expects: 1, 3 or 4.
        strict: Let an unreadable image stop the loader, rather than be skipped.
    """
    return Samples(
        source,
        read=partial(_read, source, channels),
        transform=partial(_transformed, transform),
        collate=collate,
        strict=strict,
    )


def _read(source: ImageSource, channels: int, row: int) -> tuple[Image.Image, int]:
    return source.image(row, channels), source.labels[row]


def _transformed(transform: Transform, held: tuple[Image.Image, int]) -> Sample:
    image, label = held
    return Sample(transform(image), label)


def labelled_clips(source: ImageSource, reader: Callable[[str], Tensor], strict: bool = False) -> Samples:
    """Clips of a source's videos with their labels.

    Args:
        source: The videos, each a path.
        reader: From a path to one clip or to the views of a test, as `swinv2.data.video_transforms` has them.
        strict: Let an unreadable video stop the loader, rather than be skipped.
    """
    return Samples(
        source, read=partial(_read_clip, source, reader), transform=_as_it_is, collate=collate, strict=strict
    )


def _read_clip(source: ImageSource, reader: Callable[[str], Tensor], row: int) -> Sample:
    path = source.raw(row)
    assert isinstance(path, str)  # those of videos are
    return Sample(reader(path), source.labels[row])


def _as_it_is(sample: Sample) -> Sample:
    """A reader transforms frame by frame, so that only one is held at its full size."""
    return sample


def collate(samples: Sequence[Sample], **common: Any) -> Batch:
    """A batch of images or clips, which all have one size."""
    return Batch(
        images=torch.stack([sample.image for sample in samples]) if samples else torch.empty(0),
        labels=torch.tensor([sample.label for sample in samples], dtype=torch.long),
        **common,
    )

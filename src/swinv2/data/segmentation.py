"""Images with label maps as samples and batches, for `swinv2.data.loading`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from swinv2.data.loading import Samples
from swinv2.data.segmentation_transforms import JointTransform
from swinv2.data.sources.label_maps import LabelMap, LabelMaps


class SegmentationSample(NamedTuple):
    """One image [C, H, W], its labels [h, w], and further views [C, H, W] of the image at other scales."""

    image: Tensor
    labels: Tensor
    others: tuple[Tensor, ...] = ()


class SegmentationBatch(NamedTuple):
    """Images and label maps that could be read, and "NAME: reason" for each that could not; size 0 where none could.

    Smaller ones are padded at the ends, images with 0 and label maps with the ignored label: see `by_size`.
    """

    images: Tensor  # [B, C, H, W]; [0] in a batch of size 0
    labels: Tensor  # [B, h, w], int64; [0] in a batch of size 0
    image_sizes: Tensor  # [B, 2], height and width without padding
    label_sizes: Tensor  # [B, 2]
    indices: Tensor  # [B], rows in the source
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0  # that its images took in the process that read them
    epoch: int = 0
    others: tuple[tuple[Tensor, Tensor], ...] = ()  # further views of all images, as images and image_sizes


def segmentation_samples(
    source: LabelMaps, transform: JointTransform, channels: int = 3, strict: bool = False
) -> Samples:
    """A source's images and label maps, transformed.

    Args:
        source: The images.
        transform: See `JointTransform`; its only randomness is torch's.
        channels: Channels that the transform expects: 1, 3 or 4.
        strict: Let an unreadable file stop the loader, rather than be skipped.
    """
    return Samples(
        source,
        read=partial(source.read, channels=channels),
        transform=partial(_transformed, transform),
        collate=partial(collate, ignore_index=source.ignore_index),
        strict=strict,
    )


def _transformed(transform: JointTransform, pair: tuple[Image.Image, LabelMap]) -> SegmentationSample:
    image, labels, *others = transform(*pair)
    return SegmentationSample(image, labels, tuple(others))


def collate(samples: Sequence[SegmentationSample], *, ignore_index: int, **common: Any) -> SegmentationBatch:
    """A batch of images of any sizes."""
    images, image_sizes = _stacked([sample.image for sample in samples], 0)
    labels, label_sizes = _stacked([sample.labels for sample in samples], ignore_index)
    others = tuple(_stacked(views, 0) for views in zip(*(sample.others for sample in samples), strict=True))
    return SegmentationBatch(images, labels.long(), image_sizes, label_sizes, others=others, **common)


def by_size(batch: SegmentationBatch) -> Iterator[SegmentationBatch]:
    """The images of each size of a batch, and their label maps, without padding.

    A model sees padding of a batch as pixels, so evaluation sees images as they are.
    """
    sizes = torch.cat([batch.image_sizes, batch.label_sizes, *(sizes for _, sizes in batch.others)], 1)
    for size in sizes.unique(dim=0) if len(sizes) else ():
        rows = (sizes == size).all(1).nonzero()[:, 0]
        height, width = batch.label_sizes[rows[0]].tolist()
        yield SegmentationBatch(
            images=_without_padding(batch.images, batch.image_sizes, rows),
            labels=batch.labels[rows, :height, :width],
            image_sizes=batch.image_sizes[rows],
            label_sizes=batch.label_sizes[rows],
            indices=batch.indices[rows],
            others=tuple((_without_padding(*other, rows), other[1][rows]) for other in batch.others),
        )


def _without_padding(images: Tensor, sizes: Tensor, rows: Tensor) -> Tensor:
    """Images of some rows, which are all of one size."""
    height, width = sizes[rows[0]].tolist()
    return images[rows, :, :height, :width]


def _stacked(tensors: Sequence[Tensor], value: float) -> tuple[Tensor, Tensor]:
    """One tensor of ``[..., H, W]``, padded at the ends to the largest, and the sizes ``[B, 2]``."""
    if not tensors:
        return torch.empty(0), torch.empty(0, 2, dtype=torch.long)
    sizes = torch.tensor([tensor.shape[-2:] for tensor in tensors])
    height, width = sizes.amax(0).tolist()
    padded = [F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), value=value) for x in tensors]
    return torch.stack(padded), sizes

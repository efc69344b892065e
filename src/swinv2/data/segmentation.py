"""Samples and batches of images with label maps, for `swinv2.data.loading`'s groups and loaders."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from swinv2.data.image import UnreadableImage
from swinv2.data.loading import Problem, SampleKey, seeded
from swinv2.data.segmentation_transforms import JointTransform
from swinv2.data.sources.label_maps import LabelMaps


class SegmentationSample(NamedTuple):
    """One image [C, H, W], its labels [h, w], its row in the source, and the seconds that making them took."""

    image: Tensor
    labels: Tensor
    row: int
    seconds: float = 0.0


class SegmentationBatch(NamedTuple):
    """Images and label maps that could be read, and "NAME: reason" for each that could not; size 0 where none could.

    Smaller ones are padded at the ends, images with 0 and label maps with the ignored label: see `by_size`.
    """

    images: Tensor  # [B, C, H, W]; [0] in a batch of size 0
    labels: Tensor  # [B, h, w], int64; [0] in a batch of size 0
    image_sizes: Tensor  # [B, 2], height and width without padding
    label_sizes: Tensor  # [B, 2]
    indices: Tensor  # [B], rows in the source
    skipped: tuple[str, ...]
    seconds: float = 0.0  # that its images took in the process that read them


class SegmentationSamples(Dataset["SegmentationSample | Problem"]):
    """A source's images and label maps, transformed; an error is the item, as in `swinv2.data.loading.Samples`.

    Args:
        source: The images.
        transform: To [C, H, W] and labels [h, w]; its only randomness is torch's.
        channels: Channels that the transform expects: 1, 3 or 4.
        strict: Let an unreadable file stop the loader, rather than be skipped.
    """

    def __init__(self, source: LabelMaps, transform: JointTransform, channels: int = 3, strict: bool = False) -> None:
        self.source = source
        self.transform = transform
        self.channels = channels
        self.strict = strict

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> SegmentationSample | Problem:
        started = time.perf_counter()
        try:
            pair = self.source.read(key.row, self.channels)
        except (ValueError, OSError, MemoryError) as error:
            return error
        with seeded(key):
            image, labels = self.transform(*pair)
        return SegmentationSample(image, labels, key.row, time.perf_counter() - started)


def collate(
    items: Sequence[SegmentationSample | Problem], strict: bool = False, ignore_index: int = 255
) -> SegmentationBatch | Problem:
    """A batch without the unreadable images, or the first error that must stop the loader."""
    errors = [item for item in items if not isinstance(item, SegmentationSample)]
    fatal = [error for error in errors if strict or not isinstance(error, UnreadableImage)]
    if fatal:
        return fatal[0]
    samples = [item for item in items if isinstance(item, SegmentationSample)]
    images, image_sizes = _stacked([sample.image for sample in samples], 0)
    labels, label_sizes = _stacked([sample.labels for sample in samples], ignore_index)
    return SegmentationBatch(
        images=images,
        labels=labels if samples else labels.long(),
        image_sizes=image_sizes,
        label_sizes=label_sizes,
        indices=torch.tensor([sample.row for sample in samples], dtype=torch.long),
        skipped=tuple(map(str, errors)),
        seconds=sum(sample.seconds for sample in samples),
    )


def by_size(batch: SegmentationBatch) -> Iterator[SegmentationBatch]:
    """The images of each size of a batch, and their label maps, without padding.

    A model sees padding of a batch as pixels, so evaluation sees images as they are.
    """
    sizes = torch.cat([batch.image_sizes, batch.label_sizes], 1)
    for size in sizes.unique(dim=0) if len(sizes) else ():
        rows = (sizes == size).all(1).nonzero()[:, 0]
        height, width, label_height, label_width = size.tolist()
        yield batch._replace(
            images=batch.images[rows, :, :height, :width],
            labels=batch.labels[rows, :label_height, :label_width],
            image_sizes=batch.image_sizes[rows],
            label_sizes=batch.label_sizes[rows],
            indices=batch.indices[rows],
            skipped=(),
        )


def _stacked(tensors: Sequence[Tensor], value: float) -> tuple[Tensor, Tensor]:
    """One tensor of ``[..., H, W]``, padded at the ends to the largest, and the sizes ``[B, 2]``."""
    if not tensors:
        return torch.empty(0), torch.empty(0, 2, dtype=torch.long)
    sizes = torch.tensor([tensor.shape[-2:] for tensor in tensors])
    height, width = sizes.amax(0).tolist()
    padded = [F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), value=value) for x in tensors]
    return torch.stack(padded), sizes

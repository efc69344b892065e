"""Batches of images with objects, for `swinv2.data.loading.make_loader`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from swinv2.data.detection_options import DetectionAugmentOptions
from swinv2.data.detection_transforms import JointTransform, eval_transform, train_transform
from swinv2.data.loading import Problem, SampleKey, Samples, first_fatal, seeded
from swinv2.data.sources.coco import CocoSource, Target
from swinv2.preprocessing import Preprocessing


class DetectionSample(NamedTuple):
    """One image [C, H, W], its objects, its row in the source, and the seconds that it took."""

    image: Tensor
    target: Target
    row: int
    seconds: float = 0.0


class DetectionBatch(NamedTuple):
    """Images that could be read, each of its own size, and "NAME: reason" for each that could not."""

    images: list[Tensor]  # [C, H, W] each, normalised
    targets: list[Target]
    indices: Tensor  # [B], rows in the source
    skipped: tuple[str, ...]
    seconds: float = 0.0  # that its images took in the process that read them


class DetectionSamples(Samples):
    """A source's images with their objects, transformed; an image's error is the item, as in `Samples`.

    Args:
        source: The images.
        transform: From a Pillow image and its target to [C, H, W] and its target; its only randomness is torch's.
        channels: Channels that the transform expects: 1, 3 or 4.
        strict: Let an unreadable image stop the loader, rather than be skipped.
        masks: Whether targets have masks.
        crowd: Whether targets have regions of many objects.
        most: So many objects of an image at most, drawn anew each time.
    """

    source: CocoSource

    def __init__(
        self,
        source: CocoSource,
        transform: JointTransform,
        channels: int = 3,
        strict: bool = False,
        *,
        masks: bool = False,
        crowd: bool = True,
        most: int | None = None,
    ) -> None:
        self.source = source
        self.joint = transform
        self.channels = channels
        self.strict = strict
        self.masks = masks
        self.crowd = crowd
        self.most = most

    @override
    def __getitem__(self, key: SampleKey) -> DetectionSample | Problem:  # type: ignore[override]
        started = time.perf_counter()
        try:
            image = self.source.image(key.row, self.channels)
            with seeded(key):
                target = self.source.target(key.row, masks=self.masks, crowd=self.crowd, most=self.most)
                pixels, target = self.joint(image, target)
        except (ValueError, OSError, MemoryError) as error:
            return error
        return DetectionSample(pixels, target, key.row, time.perf_counter() - started)

    @override
    def batch(self, items: Sequence[DetectionSample | Problem]) -> DetectionBatch | Problem:  # type: ignore[override]
        return collate(items, self.strict)


def collate(items: Sequence[DetectionSample | Problem], strict: bool = False) -> DetectionBatch | Problem:
    """A batch without the unreadable images, or the first error that must stop the loader."""
    fatal = first_fatal(items, strict)
    if fatal:
        return fatal
    samples = [item for item in items if isinstance(item, DetectionSample)]
    return DetectionBatch(
        images=[sample.image for sample in samples],
        targets=[sample.target for sample in samples],
        indices=torch.tensor([sample.row for sample in samples], dtype=torch.long),
        skipped=tuple(str(item) for item in items if isinstance(item, Exception)),
        seconds=sum(sample.seconds for sample in samples),
    )


def train_samples(
    source: CocoSource,
    augment: DetectionAugmentOptions,
    preprocessing: Preprocessing,
    *,
    masks: bool = False,
    strict: bool = False,
) -> DetectionSamples:
    """Augmented images to train on, without crowds, which no published recipe learns from.

    Args:
        source: The images.
        augment: How to augment them.
        preprocessing: Channels, mean, std and interpolation.
        masks: Whether the model learns masks; InstaBoost needs them in any case.
        strict: See `DetectionSamples`.

    Raises:
        ValueError: Masks are needed, and an object has none.
    """
    masks = masks or augment.instaboost > 0
    if masks:
        source.check_masks()
    return DetectionSamples(
        source,
        train_transform(augment, preprocessing),
        preprocessing.channels,
        strict,
        masks=masks,
        crowd=False,
        most=augment.max_objects,
    )


def eval_samples(source: CocoSource, preprocessing: Preprocessing, *, strict: bool = False) -> DetectionSamples:
    """Images to measure on, resized to fit `preprocessing.size`; the metrics take masks from the source itself."""
    return DetectionSamples(source, eval_transform(preprocessing), preprocessing.channels, strict)

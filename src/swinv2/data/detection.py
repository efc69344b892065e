"""Batches of images with objects, for `swinv2.data.loading.make_loader`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from swinv2.data.detection_options import DetectionAugmentOptions
from swinv2.data.detection_transforms import JointTransform, eval_transform, train_transform
from swinv2.data.loading import Samples
from swinv2.data.sources.coco import CocoSource, Target
from swinv2.preprocessing import Preprocessing


class DetectionSample(NamedTuple):
    """One image [C, H, W] and its objects."""

    image: Tensor
    target: Target


class DetectionBatch(NamedTuple):
    """Images that could be read, each of its own size, and "NAME: reason" for each that could not."""

    images: list[Tensor]  # [C, H, W] each, normalised
    targets: list[Target]
    indices: Tensor  # [B], rows in the source
    skipped: tuple[str, ...]
    seconds: float = 0.0  # that its images took in the process that read them
    epoch: int = 0


def detection_samples(
    source: CocoSource,
    transform: JointTransform,
    channels: int = 3,
    strict: bool = False,
    *,
    masks: bool = False,
    crowd: bool = True,
    most: int | None = None,
    semantic: int = 0,
) -> Samples:
    """A source's images with their objects, transformed.

    Args:
        source: The images.
        transform: From a Pillow image and its target to [C, H, W] and its target; its only randomness is torch's.
        channels: Channels that the transform expects: 1, 3 or 4.
        strict: Let an unreadable image stop the loader, rather than be skipped.
        masks: Whether targets have masks.
        crowd: Whether targets have regions of many objects.
        most: So many objects of an image at most, drawn anew each time.
        semantic: Classes of the targets' semantic maps; 0 for targets without.
    """
    target = partial(source.target, masks=masks, crowd=crowd, most=most, semantic=semantic)
    return Samples(
        source,
        read=partial(_read, source, channels, target),
        transform=partial(_transformed, transform),
        collate=collate,
        strict=strict,
    )


def _read(source: CocoSource, channels: int, target: partial[Target], row: int) -> tuple[Image.Image, Target]:
    return source.image(row, channels), target(row)


def _transformed(transform: JointTransform, held: tuple[Image.Image, Target]) -> DetectionSample:
    return DetectionSample(*transform(*held))


def collate(samples: Sequence[DetectionSample], **common: Any) -> DetectionBatch:
    """A batch of images, of any sizes."""
    return DetectionBatch(
        images=[sample.image for sample in samples], targets=[sample.target for sample in samples], **common
    )


def train_samples(
    source: CocoSource,
    augment: DetectionAugmentOptions,
    preprocessing: Preprocessing,
    *,
    masks: bool = False,
    semantic: int = 0,
    strict: bool = False,
) -> Samples:
    """Augmented images to train on, without crowds, which no published recipe learns from.

    Args:
        source: The images.
        augment: How to augment them.
        preprocessing: Channels, mean, std and interpolation.
        masks: Whether the model learns masks; InstaBoost needs them in any case.
        semantic: Classes of the model's semantic branch; 0 for none.
        strict: See `detection_samples`.

    Raises:
        ValueError: Masks are needed, and an object has none; or semantic maps are, and an image has none.
    """
    masks = masks or augment.instaboost > 0
    if masks:
        source.check_masks()
    if semantic:
        source.check_semantic()
    return detection_samples(
        source,
        train_transform(augment, preprocessing),
        preprocessing.channels,
        strict,
        masks=masks,
        crowd=False,
        most=augment.max_objects,
        semantic=semantic,
    )


def eval_samples(source: CocoSource, preprocessing: Preprocessing, *, strict: bool = False) -> Samples:
    """Images to measure on, resized to fit `preprocessing.size`; the metrics take masks from the source itself."""
    return detection_samples(source, eval_transform(preprocessing), preprocessing.channels, strict)

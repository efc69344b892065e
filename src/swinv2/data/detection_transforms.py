"""From a Pillow image and its objects to a detector's input and target, with and without augmentation.

All randomness is torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from swinv2.data.detection_options import DetectionAugmentOptions
from swinv2.data.instaboost import InstaBoost, uniform
from swinv2.data.objects import cut, resample, visible
from swinv2.data.sources.coco import Target
from swinv2.data.transforms import Normalise
from swinv2.preprocessing import Preprocessing

JointTransform = Callable[[Image.Image, Target], tuple[Tensor, Target]]
Step = Callable[[Image.Image, Target], tuple[Image.Image, Target]]


def fitted(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """Height and width at that short side, or a lesser one where the long side would be longer than allowed."""
    scale = min(short / min(height, width), long / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)


@dataclass(frozen=True)
class Resize:
    """Resize to a short side that is drawn from a range in steps; equal ends draw nothing."""

    low: int
    high: int
    step: int
    long: int
    interpolation: str

    def __call__(self, image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
        """The image and its objects at that size."""
        choices = (self.high - self.low) // self.step + 1
        short = self.low + self.step * (int(torch.randint(choices, ())) if choices > 1 else 0)
        size = fitted(image.height, image.width, short, self.long)
        return resample(image, target, (0, 0, image.width, image.height), size, self.interpolation)


@dataclass(frozen=True)
class ScaleJitter:
    """Large-scale jitter (Ghiasi et al., 2021): a random scale of what fits into a size, and a random crop to it.

    What is smaller than the size stays so: the detector pads it to that size, and knows where the image ends.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    interpolation: str

    def __call__(self, image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
        """The image and its objects, cut where they are larger than the size."""
        have = image.height, image.width
        scale = uniform(*self.scale) * min(side / old for side, old in zip(self.size, have, strict=True))
        whole = [max(round(old * scale), 1) for old in have]
        height, width = (min(side, most) for side, most in zip(whole, self.size, strict=True))
        top, left = (int(torch.randint(a - b + 1, ())) for a, b in zip(whole, (height, width), strict=True))
        y, x = (old / new for old, new in zip(have, whole, strict=True))
        region = (left * x, top * y, min((left + width) * x, have[1]), min((top + height) * y, have[0]))
        image, target = resample(image, target, region, (height, width), self.interpolation)
        return image, target if [height, width] == whole else cut(target, height, width)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with a probability."""

    probability: float

    def __call__(self, image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
        """The image and its objects, mirrored or not."""
        return mirrored(image, target) if torch.rand(()) < self.probability else (image, target)


def mirrored(image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
    """The image and its objects, with left and right exchanged."""
    left, top, right, bottom = target["boxes"].unbind(1)
    boxes = torch.stack([image.width - right, top, image.width - left, bottom], dim=1)
    maps = {name: target[name].flip(-1) for name in ("masks", "semantic") if name in target}
    return ImageOps.mirror(image), target | {"boxes": boxes} | maps


class Colour:
    """Brightness, contrast and saturation jitter."""

    def __init__(self, strength: float) -> None:
        self.jitter = v2.ColorJitter(strength, strength, strength)

    def __call__(self, image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
        """The image, in other colours, and its objects."""
        return self.jitter(image), target


class Joint:
    """Steps of image and objects, one after another, then normalisation."""

    def __init__(self, steps: Sequence[Step], preprocessing: Preprocessing) -> None:
        self.steps = steps
        self.normalise = Normalise(preprocessing.mean, preprocessing.std)

    def __call__(self, image: Image.Image, target: Target) -> tuple[Tensor, Target]:
        """The input [C, H, W] and its objects."""
        for step in self.steps:
            image, target = step(image, target)
        return self.normalise(image), target


def train_transform(augment: DetectionAugmentOptions, preprocessing: Preprocessing) -> JointTransform:
    """Augment one training image and its objects; those that are cut away are left out."""
    steps: list[Step] = []
    if augment.instaboost:
        steps.append(InstaBoost(augment.instaboost))
    if augment.color_jitter:
        steps.append(Colour(augment.color_jitter))
    if augment.hflip:
        steps.append(Flip(augment.hflip))
    if augment.resize == "jitter":
        steps.append(ScaleJitter(augment.jitter_size, augment.jitter_scale, preprocessing.interpolation))
    else:
        low, high = augment.short_side
        steps.append(Resize(low, high, augment.short_step, augment.long_side, preprocessing.interpolation))
    steps.append(lambda image, target: (image, visible(target)))
    return Joint(steps, preprocessing)


def eval_transform(preprocessing: Preprocessing) -> JointTransform:
    """Resize to fit `preprocessing.size`, lying or standing (800x1333: short side 800, long side at most 1333)."""
    short, long = sorted(preprocessing.size)
    return Joint([Resize(short, short, 1, long, preprocessing.interpolation)], preprocessing)

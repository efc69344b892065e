"""From a Pillow image to a model's input, with and without augmentation; and mixing of whole batches.

timm takes seconds to import, so only what trains imports it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from swinv2.data.options import AugmentOptions
from swinv2.preprocessing import Preprocessing

Transform = Callable[[Image.Image], Tensor]
Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class CentreCrop:
    """Resize an image, keeping its aspect, until it just covers size / fraction; keep the centre of that size.

    Both are one resampling of the box that remains, so a banner of 10000x10 pixels never becomes a huge image.
    """

    size: tuple[int, ...]  # height, width
    fraction: float
    interpolation: str
    place: tuple[float, float] = (0.5, 0.5)  # share of what is cut off that lies on the left, and above

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image at the size."""
        height, width = self.size
        scale = max(int(side / self.fraction) / has for side, has in ((width, image.width), (height, image.height)))
        resized = [max(int(image.width * scale + 1e-6), width), max(int(image.height * scale + 1e-6), height)]
        left, top = (
            round((has - side) * share) for has, side, share in zip(resized, (width, height), self.place, strict=True)
        )
        x, y = image.width / resized[0], image.height / resized[1]
        box = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
        return image.resize((width, height), Image.Resampling[self.interpolation.upper()], box)


class Normalise:
    """An image to [C, H, W] in units of std from the mean; twice as fast as v2's three steps for it."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.offset = 255 * torch.tensor(mean)[:, None, None]
        self.scale = 1 / (255 * torch.tensor(std)[:, None, None])

    def __call__(self, image: Image.Image) -> Tensor:
        """The image's tensor, contiguous."""
        pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, -1)
        return (
            pixels.permute(2, 0, 1)
            .to(torch.float32, memory_format=torch.contiguous_format)
            .sub_(self.offset)
            .mul_(self.scale)
        )


class Timm:
    """One of timm's augmentations, with torch's random state as the only source of its randomness."""

    def __init__(self, augmentation: Callable[[Any], Any]) -> None:
        self.augmentation = augmentation

    def __call__(self, image: Any) -> Any:
        """The augmented image or tensor; Python's and NumPy's random states stay as they were."""
        seed = int(torch.randint(2**62, ()))
        python, numpy = random.getstate(), get_bit_generator()
        random.seed(seed)
        set_bit_generator(np.random.PCG64(seed))  # ten times faster than saving and restoring NumPy's state
        try:
            return self.augmentation(image)
        finally:
            random.setstate(python)
            set_bit_generator(numpy)


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Resize, centre crop and normalise: an image to [C, H, W], deterministic."""
    return _compose(
        _crop_centre(preprocessing, preprocessing.crop_fraction), Normalise(preprocessing.mean, preprocessing.std)
    )


def train_transform(augment: AugmentOptions, preprocessing: Preprocessing) -> Transform:
    """Augment one training image, to [C, H, W]; the randomness is torch's alone."""
    steps = [
        *_crop(augment, preprocessing),
        *_colour(augment, preprocessing),
        Normalise(preprocessing.mean, preprocessing.std),
    ]
    if augment.erase:
        from timm.data.random_erasing import RandomErasing

        erasing: Any = RandomErasing
        steps.append(Timm(erasing(augment.erase, mode="pixel", device="cpu")))
    return _compose(*steps)


def _compose(*steps: Any) -> Transform:
    composed: Transform = v2.Compose(steps)
    return composed


def _crop_centre(preprocessing: Preprocessing, fraction: float) -> CentreCrop:
    return CentreCrop(preprocessing.size, fraction, preprocessing.interpolation)


def _crop(augment: AugmentOptions, preprocessing: Preprocessing) -> list[Any]:
    size = preprocessing.size
    steps: dict[str, list[Any]] = {
        "random_resized": [
            v2.RandomResizedCrop(size, augment.scale, augment.ratio, v2.InterpolationMode(augment.interpolation))
        ],
        "pad": [_crop_centre(preprocessing, 1.0), v2.RandomCrop(size, padding=augment.pad)],
        "none": [_crop_centre(preprocessing, preprocessing.crop_fraction)],
    }
    return steps[augment.crop] + ([v2.RandomHorizontalFlip(augment.hflip)] if augment.hflip else [])


def _colour(augment: AugmentOptions, preprocessing: Preprocessing) -> list[Any]:
    if augment.rand_augment:
        return [_rand_augment(augment.rand_augment, augment.interpolation, preprocessing)]
    strength = augment.color_jitter
    return [v2.ColorJitter(strength, strength, strength)] if strength else []


def _rand_augment(policy: str, interpolation: str, preprocessing: Preprocessing) -> Any:
    from timm.data.auto_augment import rand_augment_transform

    if preprocessing.channels == 4:
        raise ValueError("rand_augment cannot treat 4 channels: set augment.rand_augment to null.")
    settings = {
        "translate_const": int(min(preprocessing.size) * 0.45),
        "img_mean": tuple(min(255, round(255 * mean)) for mean in preprocessing.mean),
        "interpolation": Image.Resampling[interpolation.upper()],
    }
    try:
        randomly = rand_augment_transform(policy, settings)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"rand_augment {policy!r} is not timm's: write rand-m9-mstd0.5-inc1.") from error
    for operation in randomly.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return Timm(randomly)


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Posterize as timm does; the published strength reaches 0 bits (black), which Pillow 13 refuses."""
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)


def mixing(augment: AugmentOptions, num_classes: int) -> Mixing | None:
    """Mixup, cutmix and label smoothing of a batch, to images and soft targets [B, num_classes].

    The images are overwritten. Samples mix in pairs: an odd batch loses its last one, and a single sample is only
    smoothed. It draws from NumPy's random state. None where neither mixup nor cutmix is on.
    """
    if not augment.mix_prob or not (augment.mixup or augment.cutmix):
        return None
    return _Mixing(augment, num_classes)


class _Mixing:
    def __init__(self, augment: AugmentOptions, num_classes: int) -> None:
        from timm.data.mixup import Mixup, mixup_target

        self.smooth = partial(mixup_target, num_classes=num_classes, smoothing=augment.label_smoothing)
        self.mixup = Mixup(  # type: ignore[no-untyped-call]
            mixup_alpha=augment.mixup,
            cutmix_alpha=augment.cutmix,
            prob=augment.mix_prob,
            switch_prob=augment.mix_switch,
            label_smoothing=augment.label_smoothing,
            num_classes=num_classes,
        )

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if len(images) == 1:
            return images, self.smooth(labels)
        even = len(images) // 2 * 2
        mixed: tuple[Tensor, Tensor] = self.mixup(images[:even], labels[:even])
        return mixed

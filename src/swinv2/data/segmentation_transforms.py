"""Transforms of an image and its label map together, with and without augmentation; torch is the only randomness.

Sizes are height, width. Labels are never interpolated: a pixel has the label of the pixel below its centre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from swinv2.data.segmentation_options import SegmentationAugmentOptions
from swinv2.data.sources.label_maps import LabelMap
from swinv2.data.transforms import Normalise
from swinv2.preprocessing import Preprocessing

ImageTransform = Callable[[Image.Image], Tensor]
JointTransform = Callable[[Image.Image, LabelMap], tuple[Tensor, ...]]
"""To ``[C, H, W]`` and labels ``[h, w]``, int64; in evaluation of another size, and other views after them."""

CROPS = 10
LONGEST = 4
"""A resized image's longer side, in shorter sides; mmsegmentation's (2048, 512) is the same. Banners stay small."""


Levels = npt.NDArray[np.float64]
"""What becomes of each of the 256 levels of a band."""


class Box(NamedTuple):
    """A crop, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class EvalTransform:
    """Resize, keeping the aspect, and normalise: an image to ``[C, H, W]``; its label map is left as it is.

    Each scale is resized from the image itself, so that those above 1 show more of a large one, as in mmsegmentation.

    Args:
        preprocessing: Mean, std and interpolation; its size plays no part.
        resize: Shorter side at scale 1, in pixels; None for the image's own.
        scales: Of the views of an image.
    """

    preprocessing: Preprocessing
    resize: int | None = None
    scales: Sequence[float] = (1.0,)

    def views(self, image: Image.Image) -> list[Tensor]:
        """An image without label map at each scale, ``[C, H, W]``."""
        normalise, interpolation = _normalise(self.preprocessing), self.preprocessing.interpolation
        sizes = [resized_size(image, self.resize, scale) for scale in self.scales]
        return [normalise(cropped(image, size, Box(0, 0, *size), interpolation)) for size in sizes]

    def __call__(self, image: Image.Image, labels: LabelMap) -> tuple[Tensor, ...]:
        """The first view, the labels, and the other views."""
        first, *others = self.views(image)
        return first, torch.from_numpy(labels.astype(np.int64)), *others


@dataclass(frozen=True)
class TrainTransform:
    """Resize by a random ratio, crop, flip, distort colours, normalise, and pad with 0 and the ignored label.

    Args:
        augment: What is drawn from where.
        preprocessing: Size of the crop, mean, std and interpolation.
        ignore_index: Label of padding.
        resize: Shorter side at ratio 1, in pixels; None for the image's own.
    """

    augment: SegmentationAugmentOptions
    preprocessing: Preprocessing
    ignore_index: int = 255
    resize: int | None = None

    def __call__(self, image: Image.Image, labels: LabelMap) -> tuple[Tensor, Tensor]:
        """Image and labels of the crop's size."""
        size = resized_size(image, self.resize, _uniform(self.augment.ratio))
        box, labels = self._crop(size, labels)
        image = cropped(image, size, box, self.preprocessing.interpolation)  # only what is kept is resized
        if torch.rand(()) < self.augment.hflip:
            image, labels = ImageOps.mirror(image), labels[:, ::-1]
        pixels = _normalise(self.preprocessing)(distorted(image, self.augment))
        height, width = self.preprocessing.size
        beyond = (0, width - box.width, 0, height - box.height)
        target = torch.from_numpy(labels.astype(np.int64))
        return F.pad(pixels, beyond), F.pad(target, beyond, value=self.ignore_index)

    def _crop(self, size: Sequence[int], labels: LabelMap) -> tuple[Box, LabelMap]:
        """A crop in which no class has too large a share, if one of some is so; else the last."""
        for _ in range(CROPS):
            box = random_box(size, self.preprocessing.size)
            crop = cropped_labels(labels, size, box)
            most = self.augment.most_of_one_class
            if most == 1 or is_mixed(crop, most, self.ignore_index):
                break
        return box, crop


def resized_size(image: Image.Image, shorter: int | None, ratio: float = 1.0) -> tuple[int, int]:
    """Height and width of an image whose shorter side becomes ``ratio * shorter`` pixels, or ``ratio`` of its own."""
    sides = (image.height, image.width)
    scale = ratio
    if shorter is not None:
        scale *= min(shorter / min(sides), LONGEST * shorter / max(sides))
    height, width = (max(int(side * scale + 0.5), 1) for side in sides)
    return height, width


def cropped(image: Image.Image, size: Sequence[int], box: Box, interpolation: str) -> Image.Image:
    """What resizing an image to ``size`` and cropping it gives, in one resampling of what is kept."""
    if tuple(size) == (image.height, image.width):
        return image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    y, x = image.height / size[0], image.width / size[1]
    right, bottom = min((box.left + box.width) * x, image.width), min((box.top + box.height) * y, image.height)
    resampling = Image.Resampling[interpolation.upper()]
    return image.resize((box.width, box.height), resampling, (box.left * x, box.top * y, right, bottom))


def cropped_labels(labels: LabelMap, size: Sequence[int], box: Box) -> LabelMap:
    """The same of a label map, whose pixels keep the label at their centre."""
    rows = ((np.arange(box.top, box.top + box.height) + 0.5) * (labels.shape[0] / size[0])).astype(np.intp)
    columns = ((np.arange(box.left, box.left + box.width) + 0.5) * (labels.shape[1] / size[1])).astype(np.intp)
    return labels[rows[:, None], columns]


def random_box(size: Sequence[int], crop: Sequence[int]) -> Box:
    """A place for a crop, all being equally likely; the crop ends where the image does."""
    sides = [min(side, whole) for side, whole in zip(crop, size, strict=True)]
    top, left = (int(torch.randint(whole - side + 1, ())) for side, whole in zip(sides, size, strict=True))
    return Box(top, left, *sides)


def is_mixed(labels: LabelMap, most: float, ignore_index: int) -> bool:
    """Whether there are several classes, none with a share of ``most`` of the labelled pixels."""
    counts = np.bincount(labels.ravel())
    counts[ignore_index:][:1] = 0
    return bool(np.count_nonzero(counts) > 1 and counts.max() < most * counts.sum())


def distorted(image: Image.Image, augment: SegmentationAugmentOptions) -> Image.Image:
    """SSD's photometric distortion: brightness, contrast, saturation, hue, each with probability 0.5.

    Contrast comes before or after saturation and hue, which are of RGB alone; transparency is left as it is.
    """
    if image.mode == "RGBA":
        changed = distorted(image.convert("RGB"), augment)
        changed.putalpha(image.getchannel("A"))
        return changed
    levels = np.arange(256.0)
    if _coin():
        image = _mapped(image, levels + _uniform((-augment.brightness, augment.brightness)))
    contrast = levels * _uniform(augment.contrast) if _coin() else None
    contrast_first = _coin()
    if contrast is not None and contrast_first:
        image = _mapped(image, contrast)
    if image.mode == "RGB":
        image = _colours_changed(image, levels, augment)
    if contrast is not None and not contrast_first:
        image = _mapped(image, contrast)
    return image


def _colours_changed(image: Image.Image, levels: Levels, augment: SegmentationAugmentOptions) -> Image.Image:
    saturation = levels * _uniform(augment.saturation) if _coin() else levels
    turn = round(_uniform((-augment.hue, augment.hue)) / 360 * 256) if _coin() else 0
    if np.array_equal(saturation, levels) and not turn:
        return image
    hue = (levels + turn) % 256
    return _mapped(image.convert("HSV"), hue, saturation, levels).convert("RGB")


def _mapped(image: Image.Image, *tables: Levels) -> Image.Image:
    """Each band's levels replaced by those of its table; one table serves all bands."""
    whole = tables if len(tables) > 1 else tables * len(image.getbands())
    return image.point(np.concatenate(whole).clip(0, 255).astype(np.uint8).tolist())


def _coin() -> bool:
    return bool(torch.rand(()) < 0.5)


def _uniform(bounds: Sequence[float]) -> float:
    return float(torch.empty(()).uniform_(*bounds))


def _normalise(preprocessing: Preprocessing) -> Normalise:
    return Normalise(preprocessing.mean, preprocessing.std)

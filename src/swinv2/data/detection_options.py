"""What a recipe says about the data, augmentation and tests of detection: plain data, no torch.

The command line shows the `Args` sections as help.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from swinv2.data.options import check_reading

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class CocoLayout:
    """Where a COCO data set keeps its files, if not in one of the usual places.

    Args:
        train: JSON file of the training images, from the data's path on; where neither is named, both are found.
        val: JSON file of the validation images, from the data's path on.
        train_images: Folder of the training images, from the data's path on; by default it is found.
        val_images: Folder of the validation images, from the data's path on; by default it is found.
        empty: Train on images without objects too; validation always has them.
        semantic: Folder of the training images' semantic maps, from the data's path on, for a detector with
            semantic_classes; by default it is found.
        semantic_ignore: Value of the pixels that these maps do not label.
    """

    train: str | None = None
    val: str | None = None
    train_images: str | None = None
    val_images: str | None = None
    empty: bool = False
    semantic: str | None = None
    semantic_ignore: int = 255


@dataclass(frozen=True, kw_only=True)
class DetectionDataOptions:
    """Which COCO data set to read, and how.

    Args:
        path: A folder with annotations/instances_{train,val}*.json beside {train,val}*/, or with {train,val}*.json
            beside images/ or {train,val}/; or one JSON file.
        val_fraction: Share of the images held out for validation where the data set brings no such split.
        split_seed: Seed of that split.
        workers: Processes that read images; 0 reads in the main process.
        strict: Stop at the first missing or unreadable image instead of skipping and listing it.
        layout: Where its files are, if not in one of these places.
    """

    path: str = ""
    val_fraction: float = 0.2
    split_seed: int = 0
    workers: int = 2
    strict: bool = False
    layout: CocoLayout = field(default_factory=CocoLayout)

    def __post_init__(self) -> None:
        check_reading(self.val_fraction, self.workers)


@dataclass(frozen=True, kw_only=True)
class DetectionAugmentOptions:
    """Training augmentation of images with objects; the defaults are the paper's COCO ablation.

    Args:
        resize: short_side (a random short side, the aspect kept) or jitter (a random scale, then cropped and padded to
            a fixed size).
        short_side: Smallest and largest short side, in pixels.
        short_step: Short sides are so many pixels apart, from the smallest on; 1 for any in between.
        long_side: The long side is at most so many pixels, whatever the short side.
        jitter_size: Height and width that jitter crops to, and that batches are padded to.
        jitter_scale: Smallest and largest scale of jitter; 1 fits the image into jitter_size.
        hflip: Probability of a horizontal flip.
        color_jitter: Strength of brightness, contrast and saturation jitter; 0 turns it off.
        instaboost: Probability that an image's objects are moved, scaled and turned a little; it needs masks. HTC++ has
            0.5.
        max_objects: So many objects of an image at most are learnt from, drawn anew each time: memory grows with them.
    """

    resize: Literal["short_side", "jitter"] = "short_side"
    short_side: Pair = (480, 800)
    short_step: int = 32
    long_side: int = 1333
    jitter_size: Pair = (1536, 1536)
    jitter_scale: tuple[float, float] = (0.1, 2.0)
    hflip: float = 0.5
    color_jitter: float = 0.0
    instaboost: float = 0.0
    max_objects: int = 1000

    def __post_init__(self) -> None:
        for name in ("hflip", "instaboost"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is not a probability: use a number from 0 to 1.")
        for name in ("short_side", "jitter_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)} is not a range: give a positive minimum, then a maximum.")
        for name in ("short_step", "long_side", "max_objects"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not a positive number: use at least 1.")
        if min(self.jitter_size) < 1:
            raise ValueError(f"jitter_size {self.jitter_size} is no height and width: give two positive numbers.")
        if self.color_jitter < 0:
            raise ValueError(f"color_jitter {self.color_jitter} is negative: use 0 to turn it off.")


@dataclass(frozen=True, kw_only=True)
class DetectionTestOptions:
    """How images are looked at in tests; the defaults look once, at the model's own size.

    Args:
        short_sides: Short sides to look at the image with, one after another; none for the model's own size.
        long_side: The long side is at most so many pixels, whatever the short side.
        flip: Look at the mirrored image too.
        ranges: For each of short_sides, the smallest and largest size (square root of its area, in pixels of the
            image) of the boxes that are kept from it; none to keep all.
        tile: Side, in pixels, of overlapping squares that larger images are looked at in, besides as a whole; 0 for
            none.
        overlap: Share of a square's side that its neighbour shows too; larger objects come from the whole image.
        max_detections: So many detections of an image are kept, the likeliest; by default, as many as the detector
            was made for (100 in published ones). AP is of COCO's 100 likeliest in any case.
    """

    short_sides: tuple[int, ...] = ()
    long_side: int = 1333
    flip: bool = False
    ranges: tuple[tuple[float, float], ...] = ()
    tile: int = 0
    overlap: float = 0.2
    max_detections: int | None = None

    def __post_init__(self) -> None:
        if any(side < 1 for side in self.short_sides):
            raise ValueError(f"short_sides {self.short_sides} has one that is not positive: give pixels, as 800.")
        if self.ranges and len(self.ranges) != len(self.short_sides):
            raise ValueError(
                f"{len(self.ranges)} ranges do not fit {len(self.short_sides)} short_sides: give one for each."
            )
        for low, high in self.ranges:
            if not 0 <= low < high:
                raise ValueError(f"ranges has {(low, high)}, which no box is in: give a minimum, then a maximum.")
        for name in ("long_side", "max_detections"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} is not a positive number: use at least 1.")
        if self.tile < 0:
            raise ValueError(f"tile {self.tile} is negative: use 0 for none.")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap {self.overlap} is outside [0, 1): 0.2 is usual.")

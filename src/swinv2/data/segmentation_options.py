"""What a recipe says about images with label maps and their augmentation: plain data, no torch.

The command line shows the `Args` sections as help.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swinv2.data.options import check_reading


@dataclass(frozen=True, kw_only=True)
class LabelMapLayout:
    """What the values of label maps mean, and where they are, if not in one of the usual places.

    Args:
        classes: File with the name of one class a line, in the order of their values, or the names; by default
            classes.txt of path, or ADE20K's objectInfo150.txt.
        ignore_index: Value of pixels that take no part; if it is that of the last class, that class is left out.
        reduce_zero_label: 0 means no class, and the first class has the value 1; by default so for ADE20K's layout.
        train_list: File in path with the training images, one a line: a name without folder and extension that image
            and label map share, or both files, relative to path.
        val_list: The same of the validation images.
        image_suffix: What the names of images have beyond that of their label map, before the extension, as Cityscapes'
            _leftImg8bit.
        label_suffix: The same of label maps, as Cityscapes' _gtFine_labelTrainIds; other files are left out.
        resize: Shorter side, in pixels, to which images are resized before they are cropped or evaluated; null keeps
            their size. Figures are always of the label map's own pixels.
    """

    classes: str | tuple[str, ...] | None = None
    ignore_index: int = 255
    reduce_zero_label: bool | None = None
    train_list: str | None = None
    val_list: str | None = None
    image_suffix: str = ""
    label_suffix: str = ""
    resize: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ignore_index < 2**16:
            raise ValueError(f"ignore_index {self.ignore_index} is no 16-bit value of a label map: 255 is usual.")
        if self.resize is not None and self.resize < 1:
            raise ValueError(f"resize {self.resize} leaves no pixel: give the shorter side in pixels, or null.")


@dataclass(frozen=True, kw_only=True)
class SegmentationDataOptions:
    """Which images and label maps to read, and how.

    Args:
        path: A folder with images and label maps: {images,labels}/{train,val}, {train,val}/{images,labels} or ADE20K's
            {images,annotations}/{training,validation}; it must be given.
        val_fraction: Share of the images held out for validation where there is no such part.
        split_seed: Seed of that split.
        workers: Processes that read images; 0 reads in the main process.
        strict: Stop at the first unreadable file, or image without label map, instead of skipping and listing it.
        layout: Where its files are, if not in one of these places, and what the values of label maps mean.
    """

    path: str = ""
    val_fraction: float = 0.2
    split_seed: int = 0
    workers: int = 2
    strict: bool = False
    layout: LabelMapLayout = field(default_factory=LabelMapLayout)

    def __post_init__(self) -> None:
        check_reading(self.val_fraction, self.workers)


@dataclass(frozen=True, kw_only=True)
class SegmentationAugmentOptions:
    """Training augmentation; the defaults are those of the published ADE20K recipes.

    Args:
        ratio: Smallest and largest factor of the image's size, before a crop of the model's input size.
        most_of_one_class: A crop is drawn again, up to 10 times, where one class has a larger share of its labelled
            pixels, or all of them; 1 takes any crop.
        hflip: Probability of a horizontal flip.
        brightness: Largest change of brightness, of 255; it and the following are drawn with probability 0.5 each.
        contrast: Smallest and largest factor of the pixels.
        saturation: Smallest and largest factor of the saturation.
        hue: Largest turn of the hue, in degrees.
    """

    ratio: tuple[float, float] = (0.5, 2.0)
    most_of_one_class: float = 0.75
    hflip: float = 0.5
    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0

    def __post_init__(self) -> None:
        for name in ("most_of_one_class", "hflip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is no share: use a number from 0 to 1.")
        for name, most in (("brightness", 255), ("hue", 180)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} {getattr(self, name)} is outside [0, {most}]: use 0 to turn it off.")
        for name in ("ratio", "contrast", "saturation"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)} is not a range: give a positive minimum, then a maximum.")

"""Images with label maps, whose pixels are the indices of classes: 8 or 16 bits, with a palette or without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from swinv2.data.classes import read_classes
from swinv2.data.image import UnreadableImage, naming, read_image
from swinv2.data.options import Choice, Split
from swinv2.data.segmentation_options import SegmentationDataOptions
from swinv2.data.sources.base import shared_classes, stratified_split
from swinv2.data.sources.pairing import Pairs, find_folders, find_pairs

LabelMap = npt.NDArray[np.int32]
"""Class of each pixel, ``[H, W]``."""

NUMBERS = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L"})
"""Modes of Pillow in which a pixel is one whole number."""

SPREAD = {"L;2": 85, "L;4": 17}
"""Pillow multiplies grey values of 2 and 4 bits, as optimised PNG files have them, to fill 8 bits."""

ADE20K_CLASSES = "objectInfo150.txt"


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelMaps:
    """A map-style dataset of images with label maps.

    Args:
        classes: Class names, in the order of their indices.
        images: Files.
        maps: The label map of each.
        ignore_index: Label of the pixels that take no part, in the files and as read.
        reduce_zero_label: In the files 0 is no class, and the first has the value 1.
        skipped: "NAME: reason" of each file left out.
    """

    classes: tuple[str, ...]
    images: Sequence[str]
    maps: Sequence[str]
    ignore_index: int = 255
    reduce_zero_label: bool = False
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """What an image is called."""
        return self.images[index]

    def shards(self) -> Sequence[int]:
        """Refused: these are files of their own."""
        raise ValueError("label maps are no shards: set data.order to images.")

    def signature(self) -> bytes:
        """The names of the label maps, by which the same data are known again."""
        return "\0".join(Path(path).name for path in self.maps).encode(errors="surrogateescape")

    def read(self, index: int, channels: int = 3) -> tuple[Image.Image, LabelMap]:
        """An image in 1, 3 or 4 channels, and its label map of indices and `ignore_index`.

        Raises:
            UnreadableImage: either file is missing or damaged.
            ValueError: the label map is of another size, in colour, or has a value outside the classes.
        """
        image, labels = read_image(self.images[index], channels), self.label_map(index)
        if (image.height, image.width) != labels.shape:
            raise ValueError(
                f"{self.maps[index]} is {labels.shape[1]}x{labels.shape[0]} pixels, but its image {self.images[index]} "
                f"{image.width}x{image.height}: give the label map the size of the image, as it is shown."
            )
        return image, labels

    def label_map(self, index: int) -> LabelMap:
        """The label map alone."""
        values, first = read_label_map(self.maps[index]), int(self.reduce_zero_label)
        ignored = values == self.ignore_index
        if self.reduce_zero_label:
            ignored |= values == 0
        labels = values - first
        odd = values[~ignored & ((labels < 0) | (labels >= len(self.classes)))]
        if len(odd):
            zero = "0 and " if self.reduce_zero_label else ""
            raise ValueError(
                f"{self.maps[index]} has the value {odd[0]}, but the {len(self.classes)} classes have the values "
                f"{first} to {len(self.classes) - 1 + first}, and {zero}{self.ignore_index} is ignored: complete the "
                "class list, or change layout.ignore_index or layout.reduce_zero_label."
            )
        labels[ignored] = self.ignore_index
        return labels


def read_label_map(path: str) -> LabelMap:
    """The numbers in a label map, as they are stored; a palette is not looked at.

    Raises:
        UnreadableImage: the file is missing or damaged.
        ValueError: its pixels are colours, or no whole numbers.
    """
    with naming(path), Image.open(path) as image:
        factor = SPREAD.get(_raw_mode(image), 1)
        image.load()
    if image.mode not in NUMBERS:
        what = "has fractions" if image.mode == "F" else f"is a colour picture ({image.mode})"
        raise ValueError(
            f"{path} {what}, but a label map has one whole number a pixel: replace each colour by the index of its "
            "class, and save that as a PNG in grey or with a palette."
        )
    values = np.asarray(image).astype(np.int32)
    return values // factor if factor > 1 else values


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the file packs its pixels."""
    arguments: Any = image.tile[0][3] if image.tile else ""
    return arguments if isinstance(arguments, str) else arguments[0]


def open_label_maps(options: SegmentationDataOptions, split: Choice) -> LabelMaps:
    """The training images, the validation images, or all images of a dataset, with their label maps.

    A dataset that brings no validation part is divided by a seeded split.

    Raises:
        ValueError: The path is missing, the layout is unknown, no image has a label map, the class list is missing,
            disagrees between the parts, names a class twice or one that is ignored, or has one class to train on.
        UnreadableImage: With ``strict``, a file was left out.
    """
    if not options.path:
        raise ValueError("there is no data.path: say where the images are, as with --data.path camvid.")
    if not Path(options.path).is_dir():
        raise ValueError(f"{options.path} is not a folder: give the folder that holds images and label maps.")
    parts, reduced = find_pairs(options), _is_reduced(options)
    classes = class_list(options, reduced)
    if split == "train" and len(classes) < 2:
        raise ValueError(f"{options.path} has the single class {classes[0]!r}: name the background as well.")
    pairs = _choose(parts, options, split)
    if options.strict and pairs.skipped:
        raise UnreadableImage(pairs.skipped[0])
    return LabelMaps(
        classes=classes,
        images=pairs.images,
        maps=pairs.maps,
        ignore_index=options.layout.ignore_index,
        reduce_zero_label=reduced,
        skipped=pairs.skipped,
    )


def subset(source: LabelMaps, indices: Sequence[int]) -> LabelMaps:
    """The images of a source at some indices, in their order."""
    return replace(source, images=[source.images[i] for i in indices], maps=[source.maps[i] for i in indices])


def class_list(options: SegmentationDataOptions, reduced: bool) -> tuple[str, ...]:
    """The classes that the values of a dataset stand for, without one that is ignored.

    Args:
        options: Where they are.
        reduced: Whether 0 is no class.
    """
    names = options.layout.classes if isinstance(options.layout.classes, tuple) else _named_in_files(options)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the class list of {options.path} names {twice!r} twice: give each class its own name.")
    if not reduced and options.layout.ignore_index == len(names) - 1:
        names = names[:-1]
    if not names:
        raise ValueError(f"the class list of {options.path} is empty: write the name of one class a line.")
    highest = len(names) - 1 + reduced
    if options.layout.ignore_index <= highest:
        raise ValueError(
            f"ignore_index {options.layout.ignore_index} is the value of a class of {options.path}, whose {len(names)} "
            f"classes have the values {int(reduced)} to {highest}: ignore another value, list its class last, or, for "
            "0, set layout.reduce_zero_label and leave its name out."
        )
    return names


def _named_in_files(options: SegmentationDataOptions) -> tuple[str, ...]:
    root = Path(options.path)
    if isinstance(options.layout.classes, str):
        return read_classes(Path(options.layout.classes))
    for file, read in _READERS.items():
        if (root / file).is_file():
            return read(root / file)
    own: dict[Split, tuple[str, ...]] = {}
    if not (options.layout.train_list or options.layout.val_list):
        files = {split: folders.images.parent / "classes.txt" for split, folders in find_folders(options).items()}
        own = {split: read_classes(file) for split, file in files.items() if file.is_file()}
    if not own:
        raise ValueError(
            f"{root} has no classes.txt: write the name of one class a line, in the order of their values, or give "
            "another file as layout.classes."
        )
    return shared_classes(own, str(root))


def _read_ade20k(path: Path) -> tuple[str, ...]:
    """Names in the last column of ADE20K's table, which has a heading."""
    return tuple(line.split("\t")[-1].strip() for line in read_classes(path)[1:])


_READERS: dict[str, Callable[[Path], tuple[str, ...]]] = {"classes.txt": read_classes, ADE20K_CLASSES: _read_ade20k}


def _is_reduced(options: SegmentationDataOptions) -> bool:
    """Whether 0 is no class: as the options say, else for ADE20K's folders."""
    if options.layout.reduce_zero_label is not None:
        return options.layout.reduce_zero_label
    names = (("images", "training"), ("annotations", "training"))
    return all(Path(options.path, *each).is_dir() for each in names)


def _choose(parts: dict[Split, Pairs], options: SegmentationDataOptions, split: Choice) -> Pairs:
    if split == "all":
        columns = zip(*((part.images, part.maps, part.skipped) for part in parts.values()), strict=True)
        return Pairs(*(tuple(x for part in column for x in part) for column in columns))
    if split == "train" and "train" not in parts:
        raise ValueError(f"{options.path} has only a validation part: add the images to train on as its train part.")
    if split in parts and "val" in parts:
        return parts[split]
    whole = parts["train"]
    sides = stratified_split([0] * len(whole.images), options.val_fraction, options.split_seed)
    if not sides[1]:
        raise ValueError(f"{options.path} has one image: add more, so that some can be held out.")
    chosen = sides[0] if split == "train" else sides[1]
    return Pairs(tuple(whole.images[i] for i in chosen), tuple(whole.maps[i] for i in chosen), whole.skipped)

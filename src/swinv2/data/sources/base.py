"""What every dataset looks like, those of labelled images above all, and how one without a validation part is split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image
from typing_extensions import override

from swinv2.data.image import Readable, read_image
from swinv2.data.options import DataOptions, Split

TRAIN_PARTS = ("train", "training")
VAL_PARTS = ("val", "valid", "validation", "test", "testing")  # the first that a dataset has is its validation part


T = TypeVar("T")


class Source(Protocol):
    """What loading must know of a dataset, whatever its rows hold."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """NAME: reason of each file that was left out from the start."""

    def __len__(self) -> int:
        """Rows."""

    def shards(self) -> Sequence[int]:
        """The file, by number, that each row lies in; raises ValueError where rows are files of their own."""

    def signature(self) -> bytes:
        """By which the same data are known again, beside the number of rows: their labels, say."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSource(ABC):
    """A map-style dataset of labelled images; labels are known without decoding.

    Args:
        classes: Class names, in the order of the labels.
        labels: Each image's index into classes.
        skipped: "NAME: reason" of each file left out because it is not an image.
    """

    classes: tuple[str, ...]
    labels: Sequence[int]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def name(self, index: int) -> str:
        """What an image is called: its file, or its place in a bigger file."""

    @abstractmethod
    def raw(self, index: int) -> Readable:
        """The image as it is stored: a path, bytes, or a Pillow image."""

    def shards(self) -> Sequence[int]:
        """The file, by number, that each image lies in; raises ValueError where images are files of their own."""
        raise ValueError("these data are no shards: set data.order to images, or pack images (swinv2.data.pack).")

    def signature(self) -> bytes:
        """The labels, by which the same data are known again."""
        return array("q", self.labels).tobytes()

    def image(self, index: int, channels: int = 3) -> Image.Image:
        """The image in 1, 3 or 4 channels; raises as `swinv2.data.image.read_image` does."""
        return read_image(self.raw(index), channels, self.name(index))


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset(ImageSource):
    """Some images of another source."""

    source: ImageSource
    indices: Sequence[int]

    @override
    def name(self, index: int) -> str:
        return self.source.name(self.indices[index])

    @override
    def raw(self, index: int) -> Readable:
        return self.source.raw(self.indices[index])

    @override
    def shards(self) -> Sequence[int]:
        whole = self.source.shards()
        return dense([whole[index] for index in self.indices])


@dataclass(frozen=True, kw_only=True, eq=False)
class Joined(ImageSource):
    """The images of several sources, one after the other."""

    sources: Sequence[ImageSource]

    @override
    def name(self, index: int) -> str:
        source, own = self._locate(index)
        return source.name(own)

    @override
    def raw(self, index: int) -> Readable:
        source, own = self._locate(index)
        return source.raw(own)

    def _locate(self, index: int) -> tuple[ImageSource, int]:
        for source in self.sources:
            if index < len(source):
                return source, index
            index -= len(source)
        raise IndexError(index)


def dense(values: Iterable[object]) -> list[int]:
    """Numbers from 0, without gaps, for values, in the order of their first appearance."""
    numbers: dict[object, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


Parts = dict[Split, Callable[[], ImageSource]]  # opened only when asked for; without val, train is to be divided


def subset(source: ImageSource, indices: Sequence[int]) -> Subset:
    """The images of a source at some indices, in their order."""
    labels = [source.labels[i] for i in indices]
    return Subset(classes=source.classes, labels=labels, skipped=source.skipped, source=source, indices=indices)


def join(sources: Sequence[ImageSource]) -> Joined:
    """The images of sources of the same classes, in their order."""
    labels = [label for source in sources for label in source.labels]
    skipped = tuple(dict.fromkeys(line for source in sources for line in source.skipped))
    return Joined(classes=sources[0].classes, labels=labels, skipped=skipped, sources=sources)


def by_split(parts: Mapping[str, T]) -> dict[Split, T]:
    """A dataset's parts for training and validation; one without the latter is to be divided."""
    names: dict[Split, tuple[str, ...]] = {"train": TRAIN_PARTS, "val": VAL_PARTS}
    found = {split: next((name for name in each if name in parts), None) for split, each in names.items()}
    return {split: parts[name] for split, name in found.items() if name is not None}


def divide(source: ImageSource, split: Split, options: DataOptions) -> ImageSource:
    """One side of a seeded, stratified split."""
    train, val = stratified_split(source.labels, options.val_fraction, options.split_seed)
    if not val:
        raise ValueError(f"{options.path} has one image a class: add more, so that some can be held out.")
    return subset(source, train if split == "train" else val)


def stratified_split(labels: Sequence[int], val_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices for training and validation; a class of two images or more has at least one in each."""
    random = np.random.default_rng(seed)
    labels_array = np.asarray(labels)
    held_out = np.zeros(len(labels_array), dtype=bool)
    by_label = np.argsort(labels_array, kind="stable")  # one sort, for ImageNet-22K's many classes
    firsts = np.flatnonzero(np.diff(labels_array[by_label])) + 1
    for each in np.split(by_label, firsts):
        members = random.permutation(each)
        count = min(max(round(val_fraction * len(members)), 1), len(members) - 1)
        held_out[members[:count]] = True
    return np.flatnonzero(~held_out).tolist(), np.flatnonzero(held_out).tolist()


def shared_classes(classes: Mapping[Split, Sequence[str]], where: str) -> tuple[str, ...]:
    """The classes that training and validation agree on."""
    first, *rest = (tuple(names) for names in classes.values())
    for other in rest:
        if first != other:
            odd = ", ".join(sorted(set(first) ^ set(other))) or "their order"
            raise ValueError(f"training and validation classes of {where} differ in {odd}: give both the same.")
    return first


def check_labels(labels: Sequence[int], classes: Sequence[str], where: str) -> None:
    """Raise ValueError for the first label that is no index into the classes."""
    low, high = min(labels, default=0), max(labels, default=0)
    if low < 0 or high >= len(classes):
        label = low if low < 0 else high
        raise ValueError(f"{where} has label {label}, outside its {len(classes)} classes: labels start at 0.")

"""The 1,797 handwritten digits that come with scikit-learn: 8x8 pixels, gray."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image
from typing_extensions import override

from swinv2.data.options import DataOptions
from swinv2.data.sources.base import ImageSource, Parts, subset


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits(ImageSource):
    """Digits held in memory."""

    pixels: npt.NDArray[np.uint8]  # [N, 8, 8]

    @override
    def name(self, index: int) -> str:
        return f"digits/{index:04d}"

    @override
    def raw(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


def digit_parts(options: DataOptions) -> Parts:
    """The digits, divided by scikit-learn's own stratified split so that figures compare with others' on it."""
    return {"train": partial(_open, options, 0), "val": partial(_open, options, 1)}


def _open(options: DataOptions, side: int) -> ImageSource:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    source = Digits(
        classes=tuple(map(str, data.target_names)),
        labels=data.target.tolist(),
        pixels=np.round(data.images * (255 / 16)).astype(np.uint8),
    )
    sides = train_test_split(
        np.arange(len(source)), test_size=options.val_fraction, stratify=source.labels, random_state=options.split_seed
    )
    return subset(source, sides[side].tolist())

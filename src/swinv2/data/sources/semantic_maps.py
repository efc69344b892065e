"""Semantic maps beside a COCO data set, for detectors with a semantic branch: a PNG of each image's name.

ROOT/stuffthingmaps_train2017/, ROOT/stuffthingmaps/train2017/ (COCO-stuff's pixel maps: 0 to 181, 255 unlabelled),
ROOT/panoptic_stuff_train2017/, ROOT/semantic/train2017/, ROOT/train2017/semantic/, ROOT/semantic/, or a folder that is
named; "train2017" is how the file of instances is called.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swinv2.data.sources.label_maps import read_label_map

IGNORED = 255
"""Label of a pixel that is not learnt from, whatever stands for it in the files."""

PLACES = ("stuffthingmaps_{0}", "stuffthingmaps/{0}", "panoptic_stuff_{0}", "semantic/{0}", "{0}/semantic", "semantic")


@dataclass(frozen=True)
class SemanticMaps:
    """The maps of a data set's images, by the images' file names.

    Args:
        folder: Where they are.
        ignored: Value of the pixels that are not learnt from.
    """

    folder: Path
    ignored: int = IGNORED

    def path(self, name: str) -> Path:
        """Where the map of an image is."""
        return self.folder / Path(name).with_suffix(".png")

    def read(self, name: str, size: tuple[int, int], classes: int) -> Tensor:
        """The map of an image, uint8 ``[H, W]`` with 255 for pixels that are not learnt from.

        Args:
            name: The image's file.
            size: Its height and width.
            classes: How many the detector tells apart.

        Raises:
            UnreadableImage: It is missing or damaged.
            ValueError: It is of another size or in colour, or has a value beyond the classes.
        """
        path = self.path(name)
        values = read_label_map(str(path))
        if values.shape != size:
            raise ValueError(
                f"{path} is {values.shape[1]}x{values.shape[0]} pixels, but its image {size[1]}x{size[0]}: give the "
                "map the size of the image."
            )
        known = values[values != self.ignored]
        if known.size and not 0 <= known.min() <= known.max() < classes:
            odd = known.max() if known.max() >= classes else known.min()
            raise ValueError(
                f"{path} has the value {odd}, but semantic_classes {classes} have the values 0 to {classes - 1}, and "
                f"{self.ignored} is ignored: raise semantic_classes, or change layout.semantic_ignore."
            )
        return torch.from_numpy(np.where(values == self.ignored, IGNORED, values).astype(np.uint8))

    def check(self, names: Iterable[str]) -> None:
        """Raise ValueError if an image has no map."""
        missing = [name for name in names if not self.path(name).is_file()]
        if missing:
            raise ValueError(
                f"{len(missing)} images have no semantic map in {self.folder}, the first is {missing[0]}: add "
                f"{self.path(missing[0]).name}, or set semantic_classes to 0."
            )


def find_semantic(root: Path, stem: str, named: Path | None, ignored: int) -> SemanticMaps | None:
    """The maps that are named, or those in one of the usual places; None where there are none.

    Args:
        root: Of the data set.
        stem: What its file of instances is called, such as "train2017".
        named: The folder that the options give.
        ignored: See `SemanticMaps`.

    Raises:
        ValueError: There is no such folder.
    """
    if named is not None and not named.is_dir():
        raise ValueError(f"there is no folder {named}: check layout.semantic.")
    usual = (root / place.format(stem) for place in PLACES)
    folder = named or next((place for place in usual if place.is_dir()), None)
    return None if folder is None else SemanticMaps(folder, ignored)

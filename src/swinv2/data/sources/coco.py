"""COCO data sets: a JSON file of boxes and masks a split, and folders of images.

ROOT/annotations/instances_{train,val}*.json with ROOT/{train,val}*/ (COCO's own), ROOT/{train,val}*.json with
ROOT/images/, ROOT/{train,val}/ or ROOT/{train,val}/images/, or files that are named.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from swinv2.data.detection_options import DetectionDataOptions
from swinv2.data.image import UnreadableImage
from swinv2.data.options import Choice, Split
from swinv2.data.rle import RLE, checked, decode
from swinv2.data.sources.base import ImageSource, by_split, stratified_split
from swinv2.data.sources.coco_json import Ints, Table, clip, joined, read_categories, read_json, read_table
from swinv2.data.sources.files import part_of
from swinv2.data.sources.semantic_maps import SemanticMaps, find_semantic

Target = dict[str, Any]
"""Objects of an image: `boxes` [N, 4] (left, top, right, bottom; float32), `labels` [N] from 1 on, `area` [N],
`iscrowd` [N], `masks` [N, H, W] and `semantic` [H, W] (uint8) where asked for, `image_id`, and `size`, height and
width of the original."""

PATTERNS = ("annotations/*instances*.json", "*instances*.json", "annotations/*.json", "*.json", "*/_annotations.*.json")
"""Where a data set's files are looked for; the first that finds any counts."""
OTHERS = ("captions", "keypoints", "image_info", "panoptic", "stuff")
"""What the names of COCO's files without instances have."""
PROBED = 20
"""So many images tell which folder holds them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoSource(ImageSource):
    """Images with objects; masks are decoded when they are asked for.

    Args:
        classes: Class names, in the order of the category ids; label 1 is the first.
        labels: How many objects each image has, as it has no class of its own.
        where: What to call the data set in messages.
        category_ids: Of the classes.
        table: Images and objects, more than these may be.
        rows: The rows of the images in the table.
        paths: The files of the table's images.
        remarks: What was mended or left out, besides files.
        semantic: The images' semantic maps, where they were found.
    """

    where: str
    category_ids: tuple[int, ...]
    table: Table
    rows: Ints
    paths: list[str]
    remarks: tuple[str, ...] = ()
    semantic: SemanticMaps | None = None

    @override
    def name(self, index: int) -> str:
        return self.paths[self.rows[index]]

    @override
    def raw(self, index: int) -> str:
        return self.paths[self.rows[index]]

    def image(self, index: int, channels: int = 3) -> Image.Image:
        """See `ImageSource`; ValueError where the image has not the size that the JSON says."""
        image = super().image(index, channels)
        height, width = self.size(index)
        if image.size != (width, height):
            raise ValueError(
                f"{self.name(index)} is {image.width}x{image.height} pixels, but {self.where} says {width}x{height}: "
                "correct the file's width and height, or the image (its rotation may be to blame)."
            )
        return image

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self.table.sizes[self.rows[index]].tolist()
        return height, width

    def image_id(self, index: int) -> int:
        """The image's id in its JSON."""
        return int(self.table.ids[self.rows[index]])

    def target(
        self, index: int, *, masks: bool = False, crowd: bool = True, most: int | None = None, semantic: int = 0
    ) -> Target:
        """The objects of an image, cut at its edges.

        Args:
            index: The image.
            masks: Decode the masks.
            crowd: Keep regions of many objects too.
            most: Keep so many objects at most, drawn by torch's random state.
            semantic: Classes of the semantic map; 0 leaves it out.

        Raises:
            ValueError: A mask is missing or damaged, or the semantic map is not of this image or these classes.
            UnreadableImage: The semantic map is missing or damaged.
        """
        objects = self._objects(index)
        if not crowd:
            objects = objects[~self.table.crowd[objects]]
        if most is not None and len(objects) > most:
            objects = objects[torch.randperm(len(objects))[:most].sort().values.numpy()]
        size = self.size(index)
        boxes = clip(self.table.boxes[objects], np.array([size]).repeat(len(objects), axis=0))
        target: Target = {
            "boxes": torch.from_numpy(boxes).float(),
            "labels": torch.from_numpy(self.table.labels[objects]),
            "area": torch.from_numpy(self.table.areas[objects]).float(),
            "iscrowd": torch.from_numpy(self.table.crowd[objects]).long(),
            "image_id": self.image_id(index),
            "size": size,
        }
        if masks:
            target["masks"] = self._masks(index, objects)
        if semantic:
            assert self.semantic is not None  # see check_semantic
            target["semantic"] = self.semantic.read(self.table.files[self.rows[index]], size, semantic)
        return target

    def _objects(self, index: int) -> Ints:
        row = self.rows[index]
        return np.arange(self.table.starts[row], self.table.starts[row + 1])

    def _masks(self, index: int, objects: Ints) -> Tensor:
        if not len(objects):
            return torch.zeros(0, *self.size(index), dtype=torch.uint8)
        return torch.stack([torch.from_numpy(decode(self._rle(index, number))) for number in objects])

    def _rle(self, index: int, number: int) -> RLE:
        """The mask of an object of an image; number is its place in the table."""
        start, end = self.table.mask_starts[number : number + 2]
        if start == end:
            raise ValueError(
                f"annotation {self.table.names[number]} of {self.where} has no segmentation: add it, or train a "
                "detector of boxes alone."
            )
        try:
            return checked(pickle.loads(self.table.masks[start:end].data), *self.size(index))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"annotation {self.table.names[number]} of {self.where} has a mask that {error}: correct it."
            ) from error

    def check_masks(self) -> None:
        """Raise ValueError if an object of these images has no mask."""
        bare = np.diff(self.table.mask_starts) == 0
        for index in range(len(self)):
            for number in self._objects(index)[bare[self._objects(index)]]:
                self._rle(index, number)

    def check_ids(self) -> None:
        """Raise ValueError if two of these images have the same id, as may be where two files are joined."""
        ids, counts = np.unique(self.table.ids[self.rows], return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"{self.where} have different images of the same id {ids[counts.argmax()]}, by which predictions name "
                "them: write those of each split by itself (--split val, --split train)."
            )

    def check_semantic(self) -> None:
        """Raise ValueError if an image has no semantic map."""
        if self.semantic is None:
            raise ValueError(
                f"there are no semantic maps beside {self.where}: name their folder with layout.semantic, or set "
                "semantic_classes to 0."
            )
        self.semantic.check(self.table.files[row] for row in self.rows)

    def ground_truth(self, masks: bool = False) -> dict[str, list[dict[str, Any]]]:
        """The data as COCO's evaluation takes them, images numbered by their index, boxes as they are in the file."""
        annotations: list[dict[str, Any]] = []
        for index in range(len(self)):
            for number in self._objects(index):
                entry = {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": int(self.table.labels[number]),
                    "bbox": self.table.boxes[number].tolist(),
                    "area": float(self.table.areas[number]),
                    "iscrowd": int(self.table.crowd[number]),
                }
                annotations.append(entry | ({"segmentation": self._rle(index, number)} if masks else {}))
        sizes = self.table.sizes[self.rows].tolist()
        return {
            "images": [{"id": index, "height": height, "width": width} for index, (height, width) in enumerate(sizes)],
            "annotations": annotations,
            "categories": [{"id": label, "name": name} for label, name in enumerate(self.classes, start=1)],
        }

    def subset(self, indices: Sequence[int] | Ints) -> CocoSource:
        """Some of the images, in their order."""
        rows = self.rows[np.asarray(indices, dtype=np.int64)]
        return replace(self, rows=rows, labels=np.diff(self.table.starts)[rows].tolist())


def open_coco(options: DetectionDataOptions, split: Choice) -> CocoSource:
    """The training images, the validation images, or all images of a data set.

    A data set without validation images is divided by a seeded split.

    Raises:
        ValueError: Files are missing or ambiguous, a JSON is damaged, training and validation have other categories, or
            there are no images, or none with objects to train on.
    """
    files = find_json(options)
    if split == "train" and "train" not in files:
        raise ValueError(f"{options.path} has only validation images: name the JSON of others with layout.train.")
    if split == "all":
        return _join([_open(file, each, options) for each, file in files.items()])
    own: Split = split if split in files else "train"
    source = _open(files[own], own, options)
    if split == "train" and "val" in files:
        val = read_categories(read_json(files["val"]), files["val"])
        _check_categories(_categories(source), val, f"{source.where} and {files['val']}")
    if "val" not in files:
        source = _divide(source, split, options)
    return _with_objects(source, options) if split == "train" else source


def find_json(options: DetectionDataOptions) -> dict[Split, Path]:
    """The files that the options name, or else those that a folder holds, by split."""
    root = Path(options.path)
    given: dict[Split, str | None] = {"train": options.layout.train, "val": options.layout.val}
    named: dict[Split, Path] = {split: root / name for split, name in given.items() if name}
    if named:
        return named
    if not options.path:
        raise ValueError("there is no data.path: say where the images and their JSON files are.")
    if root.is_file():
        return {"train": root}
    found = next(filter(None, (_instances(root, pattern) for pattern in PATTERNS)), [])
    parts: dict[str, list[Path]] = {}
    for file in found:
        told = file.parent.name if file.stem.startswith("_") else file.stem
        parts.setdefault(part_of(told), []).append(file)
    files = by_split(parts) or {"train": parts.get("", [])}
    for split, candidates in files.items():
        if len(candidates) != 1:
            what = ", ".join(file.name for file in candidates) or "no JSON file of instances"
            raise ValueError(f"{root} has {what}: name one with layout.{split}, as annotations/instances_{split}.json.")
    return {split: candidates[0] for split, candidates in files.items()}


def _instances(root: Path, pattern: str) -> list[Path]:
    return sorted(file for file in root.glob(pattern) if not any(other in file.name for other in OTHERS))


def _open(file: Path, split: Split, options: DetectionDataOptions) -> CocoSource:
    content = read_json(file)
    categories = read_categories(content, file)
    table, remarks = read_table(content, file)
    if not table.files:
        raise ValueError(f"{file} has no images: check data.path.")
    folder = _image_folder(file, table.files, split, options)
    paths = [os.path.join(folder, name) for name in table.files]
    there = np.array([os.path.exists(path) for path in paths])
    skipped = [f"{paths[row]}: no such file; restore it, or remove it from {file}." for row in np.flatnonzero(~there)]
    if options.strict and skipped:
        raise UnreadableImage(skipped[0])
    rows = np.flatnonzero(there)
    maps = options.layout.semantic
    semantic = find_semantic(
        _root(file), _stem(file), Path(options.path) / maps if maps else None, options.layout.semantic_ignore
    )
    return CocoSource(
        classes=tuple(categories.values()),
        labels=np.diff(table.starts)[rows].tolist(),
        skipped=tuple(skipped),
        where=str(file),
        category_ids=tuple(categories),
        table=table,
        rows=rows,
        paths=paths,
        remarks=remarks,
        semantic=semantic,
    )


def _root(file: Path) -> Path:
    """The folder of the data set whose JSON that is."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _stem(file: Path) -> str:
    """How a JSON's part of the data set is called."""
    return file.stem.removeprefix("instances_").removesuffix("_instances")


def _image_folder(file: Path, names: Sequence[str], split: Split, options: DetectionDataOptions) -> Path:
    """The folder that is named, or that of COCO's and similar layouts which holds the most of some images."""
    named = options.layout.train_images if split == "train" else options.layout.val_images
    root, stem = _root(file), _stem(file)
    usual = [root / stem, root / "images" / stem, root / stem / "images", root / "images", root]
    folders = [Path(options.path) / named] if named else usual
    probes = names[:: max(len(names) // PROBED, 1)]
    hits = [sum((folder / name).is_file() for name in probes) for folder in folders]
    if not any(hits):
        places = ", ".join(map(str, folders))
        raise ValueError(
            f"there is no {probes[0]} of {file} in {places}: name the folder of images with layout.{split}_images."
        )
    return folders[hits.index(max(hits))]


def _categories(source: CocoSource) -> dict[int, str]:
    return dict(zip(source.category_ids, source.classes, strict=True))


def _check_categories(ours: dict[int, str], theirs: dict[int, str], where: str) -> None:
    odd = sorted(set(ours.items()) ^ set(theirs.items()))
    if odd:
        told = ", ".join(f"{name} ({number})" for number, name in odd[:5])
        raise ValueError(f"the categories of {where} differ in {told}: give both the same.")


def _divide(source: CocoSource, split: Split, options: DetectionDataOptions) -> CocoSource:
    train, val = stratified_split([0] * len(source), options.val_fraction, options.split_seed)
    if not val:
        raise ValueError(f"{source.where} has a single image: add more, so that some can be held out.")
    return source.subset(train if split == "train" else val)


def _with_objects(source: CocoSource, options: DetectionDataOptions) -> CocoSource:
    """What training is on; objects in crowds alone do not count."""
    counts = np.add.reduceat(np.append(~source.table.crowd, False), source.table.starts[:-1])
    useful = (counts * (np.diff(source.table.starts) > 0))[source.rows] > 0
    if not useful.any():
        raise ValueError(f"{source.where} has no objects in its training images: annotate some.")
    if options.layout.empty or useful.all():
        return source
    remark = (
        f"{source.where}: {(~useful).sum()} images without objects are not trained on; layout.empty true keeps them."
    )
    return replace(source.subset(np.flatnonzero(useful)), remarks=(*source.remarks, remark))


def _join(sources: Sequence[CocoSource]) -> CocoSource:
    """The images of all sources, which have the same categories."""
    first, *rest = sources
    for other in rest:
        _check_categories(_categories(first), _categories(other), f"{first.where} and {other.where}")
    offsets = np.cumsum([0, *(len(source.paths) for source in sources)])
    rows = np.concatenate([source.rows + offset for source, offset in zip(sources, offsets, strict=False)])
    table = joined([source.table for source in sources])
    return replace(
        first,
        where=" and ".join(source.where for source in sources),
        labels=np.diff(table.starts)[rows].tolist(),
        skipped=tuple(line for source in sources for line in source.skipped),
        remarks=tuple(line for source in sources for line in source.remarks),
        table=table,
        rows=rows,
        paths=[path for source in sources for path in source.paths],
        semantic=None,  # the parts have folders of their own
    )

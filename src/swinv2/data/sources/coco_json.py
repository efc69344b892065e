"""One COCO JSON file as columns, and what is wrong with it.

Worker processes share arrays, while a list of dicts is copied by the mere counting of references.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Table(NamedTuple):
    """Images, and their objects in the images' order; object `starts[i]` to `starts[i + 1]` are those of image i."""

    files: list[str]
    ids: Ints  # [images]
    sizes: Ints  # [images, 2], height and width
    starts: Ints  # [images + 1]
    boxes: Floats  # [objects, 4], x, y, width and height as they are in the file
    labels: Ints  # [objects], from 1 on
    areas: Floats  # [objects]
    crowd: Flags  # [objects]
    names: Ints  # [objects], the ids of annotations
    masks: npt.NDArray[np.uint8]  # the segmentations, pickled, one after another
    mask_starts: Ints  # [objects + 1]; an object without a segmentation has no bytes


def read_json(path: Path) -> dict[str, Any]:
    """The lists of a COCO file.

    Raises:
        ValueError: There is no such file, or it is not COCO's.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}: check data.path, data.train and data.val.")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file ({error}): export it again.") from error
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path} has no list of {key}: give a COCO file of instances.")
    return content


def read_categories(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Names of the categories by id, in the order of the ids, which may have gaps."""
    names: dict[int, str] = {}
    for category in content["categories"]:
        number, name = _whole(category, "id", f"a category of {path}"), category.get("name")
        if not isinstance(name, str):
            raise ValueError(f"category {number} of {path} has no name: give it one.")
        if number in names or name in names.values():
            raise ValueError(f"{path} has two categories of id {number} or name {name!r}: make them one.")
        names[number] = name
    if not names:
        raise ValueError(f"{path} has no categories: list the classes of its annotations.")
    return dict(sorted(names.items()))


def read_table(content: Mapping[str, Any], path: Path) -> tuple[Table, tuple[str, ...]]:
    """The images and objects of a file, and remarks on what was mended in it.

    Raises:
        ValueError: Something cannot be what was meant: an id twice, an unknown category, no box, a mask of another
            size.
    """
    labels = {number: label for label, number in enumerate(read_categories(content, path), start=1)}
    sizes = _sizes(content["images"], path)
    rows = {number: row for row, number in enumerate(sizes)}
    remarks: dict[str, list[int]] = {}
    numbers, masks = [], []
    for count, annotation in enumerate(content["annotations"], start=1):
        name = _name(annotation, count)
        owner = annotation.get("image_id")
        if not isinstance(owner, int) or owner not in sizes:
            remarks.setdefault("annotations of images that are not listed were left out", []).append(name)
            continue
        where = f"annotation {name} of {path}"
        x, y, width, height = box = _box(annotation, where)
        area = annotation.get("area")
        if not isinstance(area, int | float) or not math.isfinite(area):
            area = width * height
        numbers.append(
            (rows[owner], name, _label(annotation, labels, where), area, bool(annotation.get("iscrowd")), *box)
        )
        mask = _mask(annotation.get("segmentation"), sizes[owner], where)
        if mask == []:
            remarks.setdefault("masks have no polygon of three points or more and became boxes", []).append(name)
            mask = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        masks.append(pickle.dumps(mask, pickle.HIGHEST_PROTOCOL) if mask else b"")
    table = _table(content["images"], sizes, np.array(numbers, dtype=np.float64).reshape(-1, 9), masks, remarks)
    lines = (f"{path}: {len(names)} {kind}, the first is {names[0]}." for kind, names in remarks.items())
    return table, tuple(lines)


def _sizes(images: Sequence[Mapping[str, Any]], path: Path) -> dict[int, tuple[int, int]]:
    """Height and width of the images, by id."""
    sizes: dict[int, tuple[int, int]] = {}
    for image in images:
        number = _whole(image, "id", f"an image of {path}")
        if number in sizes:
            raise ValueError(f"{path} has two images of id {number}: give each its own.")
        if not isinstance(image.get("file_name"), str):
            raise ValueError(f"image {number} of {path} has no file_name: name its file.")
        height, width = (_whole(image, side, f"image {number} of {path}") for side in ("height", "width"))
        if min(height, width) < 1:
            raise ValueError(f"image {number} of {path} is {width}x{height} pixels: correct its width and height.")
        sizes[number] = height, width
    return sizes


def _whole(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int):
        raise ValueError(f"{where} has {key} {value!r}, which is no whole number: correct it.")
    return value


def _name(annotation: Mapping[str, Any], count: int) -> int:
    """What to call an annotation in messages: its id means nothing else here, and may be that of another."""
    name = annotation.get("id")
    return name if isinstance(name, int) else count


def _box(annotation: Mapping[str, Any], where: str) -> list[float]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(box):
        raise ValueError(f"{where} has bbox {box}, not four numbers (x, y, width, height): correct it.")
    return box


def _label(annotation: Mapping[str, Any], labels: Mapping[int, int], where: str) -> int:
    category = annotation.get("category_id")
    if not isinstance(category, int) or category not in labels:
        raise ValueError(f"{where} has category {category}, which the file does not list: add it.")
    return labels[category]


def _mask(segmentation: Any, size: tuple[int, int], where: str) -> Any:
    """A segmentation without what is no polygon: an empty list if nothing is left, None if there was none."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        if list(segmentation.get("size") or ()) != list(size):
            raise ValueError(
                f"{where} has a mask of height and width {segmentation.get('size')} in an image of {list(size)}: "
                "correct either."
            )
        return {"counts": segmentation.get("counts")}
    if not isinstance(segmentation, list) or not all(map(_are_numbers, segmentation)):
        raise ValueError(f"{where} has a segmentation that is neither polygons nor a run-length code: correct it.")
    return [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]


def _are_numbers(values: Any) -> bool:
    try:
        return isinstance(values, list) and math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def _table(
    images: Sequence[Mapping[str, Any]],
    sizes: Mapping[int, tuple[int, int]],
    numbers: Floats,
    masks: Sequence[bytes],
    remarks: dict[str, list[int]],
) -> Table:
    """The objects in the images' order, without those that have no area in their image."""
    shapes = np.array(list(sizes.values()), dtype=np.int64).reshape(-1, 2)
    rows, names, labels = numbers[:, :3].astype(np.int64).T
    boxes = numbers[:, 5:]
    kept = _kept(boxes, shapes[rows], names, remarks)
    order = np.flatnonzero(kept)[np.argsort(rows[kept], kind="stable")]
    ordered = [masks[place] for place in order]
    return Table(
        files=[image["file_name"] for image in images],
        ids=np.array(list(sizes), dtype=np.int64),
        sizes=shapes,
        starts=_starts(np.bincount(rows[order], minlength=len(shapes)).tolist()),
        boxes=boxes[order],
        labels=labels[order],
        areas=numbers[order, 3],
        crowd=numbers[order, 4] > 0,
        names=names[order],
        masks=np.frombuffer(b"".join(ordered), dtype=np.uint8),
        mask_starts=_starts(map(len, ordered)),
    )


def _kept(boxes: Floats, sizes: Ints, names: Ints, remarks: dict[str, list[int]]) -> Flags:
    """Which boxes have an area within their image."""
    inside = clip(boxes, sizes)
    flat: Flags = np.any(boxes[:, 2:] <= 0, axis=1)
    outside: Flags = np.any(inside[:, 2:] <= inside[:, :2], axis=1) & ~flat
    beyond: Flags = np.any(np.abs(inside - corners(boxes)) > 1, axis=1) & ~outside & ~flat
    for kind, found in {
        "boxes without area were left out": flat,
        "boxes outside their image were left out": outside,
        "boxes reach beyond their image and are cut in training": beyond,
    }.items():
        if found.any():
            remarks[kind] = names[found].tolist()
    return ~(flat | outside)


def corners(boxes: Floats) -> Floats:
    """Boxes ``[N, 4]`` of x, y, width and height as left, top, right and bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def clip(boxes: Floats, sizes: Ints) -> Floats:
    """The same, within images of these heights and widths ``[N, 2]``."""
    most = sizes[:, [1, 0, 1, 0]]
    return np.clip(corners(boxes), 0, most)


def _starts(lengths: Iterable[int]) -> Ints:
    return np.array([0, *accumulate(lengths)], dtype=np.int64)


def joined(tables: Sequence[Table]) -> Table:
    """The images of several tables, one after the other; their ids may repeat."""
    columns = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ("ids", "sizes", "boxes", "labels", "areas", "crowd", "names", "masks")
    }
    return Table(
        files=[name for table in tables for name in table.files],
        starts=_starts(np.concatenate([np.diff(table.starts) for table in tables]).tolist()),
        mask_starts=_starts(np.concatenate([np.diff(table.mask_starts) for table in tables]).tolist()),
        **columns,
    )

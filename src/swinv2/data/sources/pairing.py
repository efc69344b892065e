"""Which image belongs to which label map: by folders that mirror each other, or by lists of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from swinv2.data.image import is_image_name, left_out
from swinv2.data.options import Split
from swinv2.data.segmentation_options import SegmentationDataOptions
from swinv2.data.sources.base import TRAIN_PARTS, VAL_PARTS, by_split
from swinv2.data.sources.folder import files_below, subfolders

IMAGES = ("images", "image", "img_dir", "JPEGImages", "leftImg8bit")
LABELS = ("labels", "label", "masks", "mask", "annotations", "ann_dir", "SegmentationClass", "gtFine")
"""Names of the folders that hold them, in any capitals."""

LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif"})
"""Extensions of label maps; JPEG changes labels, and Pillow scales those of PGM to its largest value."""


Pair = tuple[str, str]
"""An image and its label map."""


class Folders(NamedTuple):
    """Where the images of a part lie, and their label maps."""

    images: Path
    labels: Path


@dataclass(frozen=True)
class Pairs:
    """Images, the label map of each, and "NAME: reason" of what was left out."""

    images: tuple[str, ...]
    maps: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def find_pairs(options: SegmentationDataOptions) -> dict[Split, Pairs]:
    """The pairs of a dataset's parts, by the lists if there are any, else by its folders."""
    lists: dict[Split, str | None] = {"train": options.layout.train_list, "val": options.layout.val_list}
    if any(lists.values()):
        return {split: _listed(Path(options.path, name), options) for split, name in lists.items() if name}
    return {split: mirrored(folders, options) for split, folders in find_folders(options).items()}


def find_folders(options: SegmentationDataOptions) -> dict[Split, Folders]:
    """The folders of each part: ROOT/images/train, ROOT/train/images, or ROOT/images, which is to be divided.

    A part without a folder of label maps, as of test images whose labels are secret, is left out.
    """
    root = Path(options.path)
    whole = _both(root)
    if whole:
        names = {name.lower(): name for name in _parts(whole.images)}
        parts = {part: Folders(whole.images / name, whole.labels / name) for part, name in names.items()}
        parts = {part: folders for part, folders in parts.items() if folders.labels.is_dir()}
        if names and not parts:
            raise ValueError(f"{whole.labels} has no folder {' or '.join(names.values())} as {whole.images}: add it.")
        return by_split(parts or {"train": whole})
    found = {name.lower(): folders for name in _parts(root) if (folders := _both(root / name))}
    if not found:
        raise ValueError(
            f"{root} has no folders of images and label maps: the layout is ROOT/images/train and ROOT/labels/train "
            "(or ROOT/train/images and ROOT/train/labels), and for validation likewise; names known are "
            f"{', '.join(IMAGES)} and {', '.join(LABELS)}; or give layout.train_list and layout.val_list."
        )
    return by_split(found)


def mirrored(folders: Folders, options: SegmentationDataOptions) -> Pairs:
    """The pairs of files that have the same name, but for suffix and extension, in the same place of both folders."""
    files = list(files_below(str(folders.images)))
    images = [file for file in files if is_image_name(file)]
    maps = _by_key(files_below(str(folders.labels)), folders.labels, options.layout.label_suffix)
    keys = [_key(image, folders.images, options.layout.image_suffix) for image in images]
    known = [(image, maps[key]) for image, key in zip(images, keys, strict=True) if key in maps]
    if not known:
        raise ValueError(
            f"no image of {folders.images} has a label map in {folders.labels}: give both the same name but for the "
            "extension (PNG, TIFF, BMP or GIF), or say what else differs with layout.image_suffix and "
            "layout.label_suffix."
        )
    lonely = maps.keys() - set(keys)
    skipped = [
        *(left_out(file) for file in files if not is_image_name(file)),
        *(_unlabelled(image, folders.labels) for image, key in zip(images, keys, strict=True) if key not in maps),
        *(f"{maps[key]}: a label map without image; add the image or remove it." for key in sorted(lonely)),
    ]
    paired, labels = zip(*known, strict=True)
    return Pairs(paired, labels, tuple(skipped))


def _listed(file: Path, options: SegmentationDataOptions) -> Pairs:
    """The pairs that the lines of a file name."""
    if not file.is_file():
        raise ValueError(f"there is no list {file}: check layout.train_list and layout.val_list.")
    named: Mapping[str, set[Pair]] | None = None
    pairs, skipped = list[Pair](), list[str]()
    for number, line in enumerate(_lines(file), start=1):
        cells = [cell.strip() for cell in line.split("\t" if "\t" in line else "," if "," in line else None)]
        if not cells or cells == [""]:
            continue
        if len(cells) > 2:
            raise ValueError(
                f"{file}, line {number} has {len(cells)} paths: give an image and its label map, or one name; put a "
                "tab between paths that contain spaces."
            )
        if len(cells) == 2:
            image, label = (str(Path(options.path, cell)) for cell in cells)
            _check_lossless(label, f"{file}, line {number}")
        else:
            named = named or _names(options)
            found = named.get(cells[0], set())
            if len(found) != 1:
                raise ValueError(
                    f"{file}, line {number}: {len(found) or 'no'} images in {options.path} are called {cells[0]!r}: "
                    "give the name of one, with its folder where that is needed."
                )
            image, label = next(iter(found))
        if os.path.exists(label):
            pairs.append((image, label))
        else:
            skipped.append(_unlabelled(image, label or options.path))
    if not pairs:
        raise ValueError(f"{file} names no image with a label map: {skipped[0] if skipped else 'it is empty.'}")
    images, maps = zip(*pairs, strict=True)
    return Pairs(images, maps, tuple(skipped))


def _check_lossless(label: str, where: str) -> None:
    if not _is_lossless(label):
        raise ValueError(f"{where}: {label} may not keep labels as they are: save label maps as PNG, TIFF, BMP or GIF.")


def _is_lossless(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in LOSSLESS


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no UTF-8 text: write one image a line.") from error


def _names(options: SegmentationDataOptions) -> dict[str, set[Pair]]:
    """Images and label maps ("" without one) by the names that a list may give: with or without folder, extension."""
    folders = _both(Path(options.path))
    if folders is None:
        raise ValueError(
            f"{options.path} has no folders of images and labels in which to look names up: write both paths a line."
        )
    maps = _by_key(files_below(str(folders.labels)), folders.labels, options.layout.label_suffix)
    names: dict[str, set[Pair]] = {}
    for image in filter(is_image_name, files_below(str(folders.images))):
        key = _key(image, folders.images, options.layout.image_suffix)
        pair = (image, maps.get(key, ""))
        inside = Path(os.path.relpath(image, folders.images))
        for name in (Path(key).name, inside.name, key, inside.as_posix(), f"{folders.images.name}/{inside.as_posix()}"):
            names.setdefault(name, set()).add(pair)
    return names


def _by_key(files: Iterable[str], folder: Path, suffix: str) -> dict[str, str]:
    """Label maps by what they share with their image."""
    found: dict[str, str] = {}
    for file in files:
        if _is_lossless(file) and os.path.splitext(file)[0].endswith(suffix):
            key = _key(file, folder, suffix)
            if key in found:
                raise ValueError(f"{found[key]} and {file} are label maps of one image: remove one of them.")
            found[key] = file
    return found


def _key(file: str, folder: Path, suffix: str) -> str:
    """Place in the folder, without extension and suffix."""
    return Path(os.path.relpath(os.path.splitext(file)[0], folder)).as_posix().removesuffix(suffix)


def _both(root: Path) -> Folders | None:
    """The folder of images and that of label maps in a folder, if it has both."""
    there = {name.lower(): root / name for name in subfolders(root)} if root.is_dir() else {}
    images, labels = (
        next((there[name.lower()] for name in names if name.lower() in there), None) for names in (IMAGES, LABELS)
    )
    return Folders(images, labels) if images and labels else None


def _parts(root: Path) -> list[str]:
    names = subfolders(root) if root.is_dir() else ()
    return [name for name in names if name.lower() in (*TRAIN_PARTS, *VAL_PARTS)]


def _unlabelled(image: str, where: str | Path) -> str:
    return f"{image}: no label map at {where}; add it or remove the image."

"""A folder of class folders: ROOT/CLASS/*, or ROOT/{train,val}/CLASS/*."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from typing_extensions import override

from swinv2.data.image import EXTENSIONS, UnreadableImage
from swinv2.data.options import DataOptions
from swinv2.data.sources.base import VAL_PARTS, ImageSource, Parts, by_split, shared_classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder(ImageSource):
    """Image files, the class of each named by its folder."""

    paths: list[str]

    @override
    def name(self, index: int) -> str:
        return self.paths[index]

    @override
    def raw(self, index: int) -> str:
        return self.paths[index]


def folder_parts(options: DataOptions) -> Parts:
    """The parts of a folder, which must have the same classes."""
    parts = by_split(_folders_by_part(Path(options.path)))
    classes = shared_classes({split: _folders(folder) for split, folder in parts.items()}, options.path)
    return {split: partial(_scan, folder, classes, options.strict) for split, folder in parts.items()}


def _folders_by_part(root: Path) -> dict[str, Path]:
    """The root's split folders, or the root itself as the train part where its folders are the classes.

    A class may be called train: split names count only in company of another, or alone.
    """
    names = _folders(root)
    parts = {name: root / name for name in ("train", *VAL_PARTS) if name in names}
    return parts if len(parts) > 1 or len(parts) == len(names) == 1 else {"train": root}


def _folders(root: Path) -> tuple[str, ...]:
    with os.scandir(root) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def _scan(root: Path, classes: tuple[str, ...], strict: bool) -> Folder:
    if not classes:
        raise ValueError(f"{root} has no class folders: put the images of each class into a folder of its name.")
    paths: list[str] = []
    labels: list[int] = []
    skipped: list[str] = []
    for label, name in enumerate(classes):
        files = list(_files(root / name))
        images = [file for file in files if os.path.splitext(file)[1].lower() in EXTENSIONS]
        if not images:
            raise ValueError(f"class folder {root / name} has no images: add some, or remove the folder.")
        paths += images
        labels += [label] * len(images)
        skipped += [f"{file}: not an image by its extension; remove it." for file in sorted(set(files) - set(images))]
    if strict and skipped:
        raise UnreadableImage(skipped[0])
    return Folder(classes=classes, labels=labels, skipped=tuple(skipped), paths=paths)


def _files(root: Path) -> Iterator[str]:
    """All files below a folder, sorted; hidden ones are left out."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(folder, name) for name in sorted(files) if not name.startswith("."))

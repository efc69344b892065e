"""A folder of class folders: ROOT/CLASS/*, or ROOT/{train,val}/CLASS/*."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from typing_extensions import override

from swinv2.data.image import UnreadableImage, is_image_name, left_out
from swinv2.data.options import DataOptions
from swinv2.data.sources.base import TRAIN_PARTS, VAL_PARTS, ImageSource, Parts, by_split, shared_classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder(ImageSource):
    """Files of images, or of videos; the class of each is often the name of its folder."""

    paths: list[str]

    @override
    def name(self, index: int) -> str:
        return self.paths[index]

    @override
    def raw(self, index: int) -> str:
        return self.paths[index]


@dataclass(frozen=True)
class Kind:
    """Which files of a folder count.

    Args:
        word: What they are called.
        is_name: Whether a file is one, by its extension.
        left_out: What to say of one that is not.
    """

    word: str
    is_name: Callable[[str], bool]
    left_out: Callable[[str], str]


IMAGES = Kind("images", is_image_name, left_out)


def folder_parts(options: DataOptions, kind: Kind = IMAGES) -> Parts:
    """The parts of a folder, which must have the same classes."""
    parts = by_split(_folders_by_part(Path(options.path)))
    classes = shared_classes({split: subfolders(folder) for split, folder in parts.items()}, options.path)
    return {split: partial(_scan, folder, classes, options.strict, kind) for split, folder in parts.items()}


def _folders_by_part(root: Path) -> dict[str, Path]:
    """The root's split folders, or the root itself as the train part where its folders are the classes.

    A class may be called train: split names count only in company of another, or alone. A split folder without class
    folders, as of test images whose labels are secret, is left out.
    """
    names = subfolders(root)
    parts = {name.lower(): root / name for name in names if name.lower() in (*TRAIN_PARTS, *VAL_PARTS)}
    if len(parts) == 1 < len(names) or not parts:
        return {"train": root}
    return {name: folder for name, folder in parts.items() if subfolders(folder)} or parts


def subfolders(root: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, in order (0, 1, ..., 10 where all are numbers); hidden ones are left out."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names))


def _scan(root: Path, classes: tuple[str, ...], strict: bool, kind: Kind) -> Folder:
    if not classes:
        raise ValueError(f"{root} has no class folders: put the {kind.word} of each class into a folder of its name.")
    by_class = {name: list(files_below(str(root / name))) for name in classes}
    _check_layout(root, by_class, kind)
    paths = [file for files in by_class.values() for file in files if kind.is_name(file)]
    labels = [label for label, files in enumerate(by_class.values()) for file in files if kind.is_name(file)]
    loose = [file for file in sorted(root.iterdir()) if kind.is_name(file.name) and not file.is_dir()]
    skipped = [
        *(f"{file}: in no class folder; move it into one." for file in loose),
        *(kind.left_out(file) for files in by_class.values() for file in files if not kind.is_name(file)),
    ]
    if strict and skipped:
        raise UnreadableImage(skipped[0])
    return Folder(classes=classes, labels=labels, skipped=tuple(skipped), paths=paths)


def _check_layout(root: Path, by_class: dict[str, list[str]], kind: Kind) -> None:
    wanted = {name: [file for file in files if kind.is_name(file)] for name, files in by_class.items()}
    empty = next((name for name, found in wanted.items() if not found), None)
    if empty is not None:
        raise ValueError(f"class folder {root / empty} has no {kind.word}: add some, or remove the folder.")
    if not any(os.path.dirname(file) == str(root / name) for name, found in wanted.items() for file in found):
        raise ValueError(
            f"the folders of {root} ({', '.join(by_class)}) hold no {kind.word} but folders: "
            "the layout is ROOT/CLASS/*, or ROOT/train/CLASS/* and ROOT/val/CLASS/*."
        )


def files_below(root: str) -> Iterator[str]:
    """All files below a folder, sorted, each linked folder once; hidden ones are left out."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(folder))
        kept = [name for name in sorted(folders) if not name.startswith(".")]
        folders[:] = [name for name in kept if os.path.realpath(os.path.join(folder, name)) not in seen]
        yield from (os.path.join(folder, name) for name in sorted(files) if not name.startswith("."))

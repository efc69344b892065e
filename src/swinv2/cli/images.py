"""Images, and videos, as people name them on a command line."""

from __future__ import annotations

import argparse
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swinv2.cli.output import check_targets
from swinv2.cli.weights import add_weights_options

if TYPE_CHECKING:
    from swinv2.data.sources import ImageSource
    from swinv2.data.sources.folder import Kind


def add_image_options(parser: argparse.ArgumentParser, *, batches: bool = True, what: str = "image") -> None:
    """Options of every `predict` on images: which, by what weights, and how they are read, one by one or in batches."""
    add = parser.add_argument
    add("images", nargs="+", metavar=f"{what.upper()}|FOLDER|GLOB", help="what to look at")
    add_weights_options(parser)
    if batches:
        add("--batch-size", type=positive, default=32, metavar="N", help="images at once (default: 32)")
        add("--workers", type=whole, default=0, metavar="N", help="processes that read images (default: 0)")
    add("--strict", action="store_true", help=f"stop at a file that is no readable {what}")


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def open_images(patterns: Sequence[str], strict: bool, kind: Kind | None = None) -> ImageSource:
    """The files that were named, once each and in that order; from folders, only those with an image's extension, or
    that of another kind of file.
    """
    from swinv2.data.image import UnreadableImage
    from swinv2.data.sources.folder import IMAGES, Folder

    kind = kind or IMAGES
    named = {os.path.abspath(pattern) for pattern in patterns}
    files: dict[str, str] = {}
    for pattern in patterns:
        for file in _expand(pattern):
            files.setdefault(os.path.abspath(file), file)
    images = [file for place, file in files.items() if kind.is_name(file) or place in named]
    skipped = [kind.left_out(file) for place, file in files.items() if not kind.is_name(file) and place not in named]
    if strict and skipped:
        raise UnreadableImage(skipped[0])
    if not images:
        raise ValueError(f"{patterns[0]} holds no {kind.word}: give files, a folder of them, or a quoted pattern.")
    return Folder(classes=("unknown",), labels=[0] * len(images), skipped=tuple(skipped), paths=images)


def picture_paths(names: Sequence[str], folder: Path, overwrite: bool) -> list[Path]:
    """A PNG file in the folder, which is made, for each image; equal names are told apart by a number."""
    taken: dict[str, int] = {}
    paths = []
    for name in names:
        stem = Path(name).stem
        taken[stem] = taken.get(stem, 0) + 1
        paths.append(folder / (f"{stem}.png" if taken[stem] == 1 else f"{stem}-{taken[stem]}.png"))
    folder.mkdir(parents=True, exist_ok=True)
    check_targets(paths, overwrite)
    return paths


def _expand(pattern: str) -> Iterator[str]:
    from swinv2.data.sources.folder import files_below

    found = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise ValueError(f"there is no file, folder or pattern {pattern}: check the path.")
    for path in found:
        yield from files_below(path) if os.path.isdir(path) else [path]

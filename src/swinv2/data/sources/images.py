"""A folder of images without labels: all below ROOT, or below ROOT/{train,val}, class folders or not."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from swinv2.data.image import UnreadableImage, is_image_name, left_out
from swinv2.data.options import DataOptions
from swinv2.data.sources.base import TRAIN_PARTS, VAL_PARTS, Parts, by_split
from swinv2.data.sources.folder import Folder, files_below, subfolders


def image_parts(options: DataOptions) -> Parts:
    """The parts of a folder that its folders name, if there are both or nothing else; otherwise all of it is one part.

    A class may be called train, as in `folder.folder_parts`.
    """
    root = Path(options.path)
    names = subfolders(root)
    parts = by_split({name.lower(): root / name for name in names if name.lower() in (*TRAIN_PARTS, *VAL_PARTS)})
    if "train" not in parts or len(parts) == 1 < len(names):
        parts = {"train": root}
    return {split: partial(_scan, folder, options.strict) for split, folder in parts.items()}


def _scan(root: Path, strict: bool) -> Folder:
    files = list(files_below(str(root)))
    paths = [file for file in files if is_image_name(file)]
    skipped = [left_out(file) for file in files if not is_image_name(file)]
    if not paths:
        raise ValueError(f"{root} has no images: check the path.")
    if strict and skipped:
        raise UnreadableImage(skipped[0])
    return Folder(classes=(), labels=[0] * len(paths), skipped=tuple(skipped), paths=paths)

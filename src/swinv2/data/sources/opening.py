"""From what a recipe says about its data to the images of one split."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from swinv2.data.options import Choice, DataOptions, Format
from swinv2.data.sources.base import ImageSource, Parts, divide, join

OPENERS = {
    "digits": "digits.digit_parts",
    "folder": "folder.folder_parts",
    "images": "images.image_parts",
    "shards": "shards.shard_parts",
    "huggingface": "huggingface.huggingface_parts",
    "videos": "videos.video_parts",
}
SUFFIXES: dict[str, Format] = {".tar": "shards", ".parquet": "huggingface"}
MARKS: dict[str, Format] = {  # what a folder of each format contains; a folder with none has class folders
    "*.parquet": "huggingface",
    "data/*.parquet": "huggingface",
    "dataset_dict.json": "huggingface",
    "state.json": "huggingface",
    "metadata.csv": "huggingface",
    "metadata.jsonl": "huggingface",
    "*.tar": "shards",
}


def open_split(options: DataOptions, split: Choice, *, labelled: bool = True) -> ImageSource:
    """The training images, the validation images, or all images of a dataset; they have the same classes.

    A dataset that brings no validation part is divided by a seeded, stratified split.

    Args:
        options: Where the images are.
        split: Which of them.
        labelled: Whether classes are wanted; without, folders may hold images in any way, and one class will do.

    Raises:
        ValueError: The path is missing, the layout is not what the format says, classes disagree between the
            parts, or there is a single class to train on.
    """
    if not options.path:
        raise ValueError("there is no data.path: say where the data are, as with --data.path photos.")
    try:
        return _open(_parts(options, labelled), options, split, labelled)
    except ValueError as error:
        mark = _mark(options.path) if options.format == "auto" else None
        if mark is None or not any(path.is_dir() for path in Path(options.path).iterdir()):
            raise
        why = f"read as {MARKS[mark]} because of {mark}; --data.format folder reads class folders"
        raise type(error)(f"{error} ({why})") from error


def _open(parts: Parts, options: DataOptions, split: Choice, labelled: bool) -> ImageSource:
    if split == "all":
        return join([part() for part in parts.values()])
    if split == "train" and "train" not in parts:
        raise ValueError(f"{options.path} has only a validation part: add what to train on as its train part.")
    source = parts[split]() if split in parts else parts["train"]()
    if not len(source):
        raise ValueError(f"{options.path} has no images: check the path.")
    if labelled and split == "train" and len(set(source.labels)) < 2:
        name = source.classes[source.labels[0]]
        raise ValueError(f"{options.path} has the single class {name!r}: training needs two or more.")
    return source if "val" in parts else divide(source, split, options)


def _parts(options: DataOptions, labelled: bool) -> Parts:
    layout: str = recognise(options.path) if options.format == "auto" else options.format
    if layout == "folder" and not Path(options.path).is_dir():
        raise ValueError(f"{options.path} is not a folder: give the folder that holds the class folders.")
    if layout == "folder" and not labelled:
        layout = "images"
    module, function = OPENERS[layout].split(".")
    opener = getattr(importlib.import_module(f"swinv2.data.sources.{module}"), function)
    return cast(Parts, opener(options))


def recognise(path: str) -> Format:
    """The format of a dataset, told by its name or by what its folder contains."""
    if path == "digits":
        return "digits"
    if path.startswith("hf:"):
        return "huggingface"
    folder = Path(path)
    if folder.is_dir():
        mark = _mark(path)
        return "folder" if mark is None else MARKS[mark]
    if folder.suffix in SUFFIXES:
        return SUFFIXES[folder.suffix]
    raise ValueError(f"{path} is no folder, .tar or .parquet file, nor digits or hf:NAME: check the path.")


def _mark(path: str) -> str | None:
    """What in a folder tells its format, if anything does."""
    return next((mark for mark in MARKS if any(Path(path).glob(mark))), None)

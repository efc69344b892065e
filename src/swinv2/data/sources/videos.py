"""Videos in class folders, or by lists: lines of PATH LABEL, or the annotations of Kinetics."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from swinv2.data.classes import read_classes
from swinv2.data.image import UnreadableImage
from swinv2.data.options import Choice, DataOptions
from swinv2.data.sources.base import ImageSource, Parts, by_split
from swinv2.data.sources.files import find_files, group_by_part, part_of
from swinv2.data.sources.folder import Folder, Kind, files_below, folder_parts
from swinv2.data.sources.opening import open_split
from swinv2.data.video import is_video_name, left_out

VIDEOS = Kind("videos", is_video_name, left_out)
LISTS = (".csv", ".txt")
CLASSES = "classes.txt"
PLACES = ("*.csv", "*.txt", "annotations/*.csv", "annotations/*.txt")
"""Where a folder may have its lists."""
HEADERS = (["path", "label"], ["video", "label"], ["file", "label"], ["path label"])
"""First lines that name the columns."""


class Row(NamedTuple):
    """A line of a list: a video and its class, by name or number."""

    video: str
    label: str


class Listing(NamedTuple):
    """What a list file says; videos are paths below the root, or names without extension that are somewhere there."""

    file: Path
    rows: list[Row]
    are_paths: bool


def open_videos(options: DataOptions, split: Choice) -> ImageSource:
    """The training videos, the validation videos, or all of a dataset; each is a path, `ImageSource.raw`.

    Args:
        options: Where they are: a folder of class folders, a list file, or a folder with lists whose names tell the
            part, such as train.csv, in it or in its folder annotations. Paths in lists count from the list's folder, or
            from the one above annotations; there, classes.txt may name the classes of numbered labels.
        split: Which of them; a dataset that brings no validation part is divided as in `open_split`.

    Raises:
        ValueError: The path is missing, the layout is none of these, or classes disagree between the parts.
    """
    if options.format not in ("auto", "videos"):
        raise ValueError(f"data.format {options.format} has no videos: set it to videos, or leave it out.")
    return open_split(replace(options, format="videos"), split)


def video_parts(options: DataOptions) -> Parts:
    """The parts of a dataset of videos."""
    root = Path(options.path)
    if not root.is_dir():
        return _listed(find_files(options.path, *PLACES[:2]), options)
    lists = [file for place in PLACES for file in sorted(root.glob(place)) if part_of(file.stem)]
    return _listed(lists, options) if lists else folder_parts(options, VIDEOS)


def _listed(files: Sequence[Path], options: DataOptions) -> Parts:
    """The parts that list files make; all have the classes of the first, which is the training part if there is one."""
    odd = next((file for file in files if file.suffix.lower() not in LISTS), None)
    if odd is not None:
        raise ValueError(f"{odd} is no list of videos: give a .csv or .txt file, or a folder of class folders.")
    found = by_split(group_by_part(file for file in files if file.name != CLASSES))
    if not found:
        raise ValueError(f"{options.path} lists neither training nor validation videos: call a list train.csv, say.")
    listings = {split: [_read(file) for file in each] for split, each in found.items()}
    names = _root(files[0]) / CLASSES
    classes = read_classes(names) if names.exists() else _classes(list(listings.values()))
    return {split: partial(_open, each, classes, options.strict) for split, each in listings.items()}


def _root(file: Path) -> Path:
    """The folder from which the paths of a list count."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _classes(parts: Sequence[Sequence[Listing]]) -> tuple[str, ...]:
    """Names of the first part's labels, sorted; where all labels of all parts are numbers, the numbers from 0 on."""
    labels = [{row.label for listing in part for row in listing.rows} for part in parts]
    if all(label.isdecimal() for each in labels for label in each):
        top = max(int(label) for each in labels for label in each)
        if top > 1000 + 10 * sum(len(listing.rows) for part in parts for listing in part):
            raise ValueError(
                f"label {top} is too large for the lists beside {parts[0][0].file}: name them in {CLASSES}."
            )
        return tuple(map(str, range(top + 1)))
    return tuple(sorted(labels[0]))


def _open(listings: Sequence[Listing], classes: tuple[str, ...], strict: bool) -> Folder:
    """The videos of a part."""
    numbers = {str(number): number for number in range(len(classes))}
    numbers |= {name: number for number, name in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    skipped: list[str] = []
    for listing in listings:
        found = _found(listing)
        lacking = [row.video for row, path in zip(listing.rows, found, strict=True) if path is None]
        if lacking:
            skipped.append(
                f"{listing.file}: {len(lacking)} of its {len(found)} videos are not below {_root(listing.file)}, as "
                f"{lacking[0]}; get them, or leave them out."
            )
        for row, path in zip(listing.rows, found, strict=True):
            if row.label not in numbers:
                raise ValueError(
                    f"class {row.label!r} of {row.video} in {listing.file} is none of the {len(classes)} classes "
                    f"({', '.join(classes[:3])}, ...): correct it, or name all classes in {CLASSES}."
                )
            if path is not None:
                paths.append(path)
                labels.append(numbers[row.label])
    if strict and skipped:
        raise UnreadableImage(skipped[0])
    if not paths:
        raise ValueError(f"{listings[0].file} lists no video that is there: check its paths.")
    return Folder(classes=classes, labels=labels, skipped=tuple(skipped), paths=paths)


def _found(listing: Listing) -> list[str | None]:
    """Where each video is; of Kinetics, whose videos are on the web and vanish, some always lack."""
    root = _root(listing.file)
    if listing.are_paths:
        return [str(root / row.video) for row in listing.rows]
    places = {Path(file).stem: file for file in files_below(str(root)) if is_video_name(file)}
    return [places.get(row.video) for row in listing.rows]


def _read(file: Path) -> Listing:
    """A list's rows: by the columns of Kinetics' header, or PATH LABEL, with a comma between them or spaces."""
    try:
        table = [row for row in csv.reader(file.read_text(encoding="utf-8-sig").splitlines()) if "".join(row).strip()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no text of lines ({error}): write PATH LABEL on each.") from error
    if not table:
        raise ValueError(f"{file} lists no videos: write PATH LABEL on each line.")
    header = [cell.strip().lower() for cell in table[0]]
    if "youtube_id" in header:
        return Listing(file, [_kinetics_row(file, dict(zip(header, row, strict=False))) for row in table[1:]], False)
    return Listing(file, [_row(file, row) for row in table[header in HEADERS :]], True)


def _kinetics_row(file: Path, cells: dict[str, str]) -> Row:
    """The file of a clip is called by its source and the seconds that it was cut at."""
    try:
        first, last = (int(float(cells[name])) for name in ("time_start", "time_end"))
        return Row(f"{cells['youtube_id']}_{first:06d}_{last:06d}", cells["label"].strip())
    except (KeyError, ValueError) as error:
        raise ValueError(f"{file} has a line without label, youtube_id, time_start or time_end: {cells}.") from error


def _row(file: Path, cells: list[str]) -> Row:
    parts = cells if len(cells) > 1 else cells[0].rsplit(maxsplit=1)
    if len(parts) != 2 or not all(part.strip() for part in parts):
        raise ValueError(f"{file} has the line {','.join(cells)!r}, but a line must be PATH LABEL.")
    return Row(parts[0].strip(), parts[1].strip())

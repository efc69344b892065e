"""WebDataset shards: tar files in which KEY.jpg and KEY.cls are one sample.

Reading the tar headers once gives an index of offsets; images are then read in any order, so shuffling is global
and an epoch is exact.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import override

from swinv2.data.classes import read_classes
from swinv2.data.image import EXTENSIONS
from swinv2.data.options import DataOptions
from swinv2.data.sources.base import ImageSource, Parts, by_split, check_labels, dense
from swinv2.data.sources.files import find_files, group_by_part

LABELS: dict[str, Callable[[bytes], Any]] = {"cls": int, "json": lambda data: json.loads(data)["label"]}
IMAGES = ("jpg", "jpeg", "png", "webp")
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # WebDataset's rule: the key ends at the name's first dot


class Entry(NamedTuple):
    """Where one image lies, and its label."""

    shard: str
    key: str
    offset: int
    size: int
    label: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Shards(ImageSource):
    """Images inside tar files. A file is opened for each read (2 us): nothing is shared between processes."""

    entries: list[Entry]

    @override
    def name(self, index: int) -> str:
        return f"{self.entries[index].shard}/{self.entries[index].key}"

    @override
    def raw(self, index: int) -> bytes:
        entry = self.entries[index]
        with open(entry.shard, "rb", buffering=0) as file:
            file.seek(entry.offset)
            return file.read(entry.size)

    @override
    def shards(self) -> Sequence[int]:
        return dense(entry.shard for entry in self.entries)


def shard_parts(options: DataOptions) -> Parts:
    """The parts of a folder or pattern of shards; classes.txt beside them names the classes, else numbers do."""
    paths = find_files(options.path, "*.tar")
    parts = by_split(group_by_part(paths))
    names = paths[0].parent / "classes.txt"
    if names.exists():
        classes = read_classes(names)
    else:
        labels = [entry.label for shards in parts.values() for entry in _index(shards)[0]]
        classes = _numbers(labels, options.path)
    return {split: partial(_open, shards, classes) for split, shards in parts.items()}


def _open(shards: Sequence[Path], classes: tuple[str, ...]) -> Shards:
    entries, skipped = _index(shards)
    labels = [entry.label for entry in entries]
    check_labels(labels, classes, str(shards[0].parent))
    return Shards(classes=classes, labels=labels, skipped=tuple(skipped), entries=entries)


def _numbers(labels: Sequence[int], where: str) -> tuple[str, ...]:
    """Classes named by their numbers; a slip in one label must not make a head of millions."""
    top = max(labels)
    if top > 1000 + 10 * len(labels):
        raise ValueError(f"{where} has label {top} among {len(labels)} samples: name the classes in classes.txt.")
    return tuple(map(str, range(top + 1)))


def _index(shards: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """The images, and "NAME: reason" of those in formats that are not read."""
    entries: list[Entry] = []
    skipped: list[str] = []
    for shard in shards:
        _index_shard(shard, entries, skipped)
    return entries, skipped


def _index_shard(shard: Path, entries: list[Entry], skipped: list[str]) -> None:
    others: dict[str, str] = {}
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, extension = _key(member.name)
                if extension in IMAGES:
                    images[key] = member
                elif f".{extension}" in EXTENSIONS:
                    others[key] = member.name
                elif extension in LABELS:
                    content = tar.extractfile(member)
                    labels[key] = _label(extension, content.read() if content else b"", f"{shard}/{member.name}")
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("damaged or cut")  # tarfile takes a broken header for the end
    except tarfile.TarError as error:
        raise ValueError(f"{shard} is not a whole, uncompressed tar file ({error}): make it again.") from error
    unlabelled = next((key for key in images if key not in labels), None)
    if unlabelled is not None or not images:
        missing = f"no label for {unlabelled}" if images else "no images"
        raise ValueError(f"{shard} has {missing}: pack KEY.jpg (png, webp) with KEY.cls or KEY.json for each sample.")
    entries += [Entry(str(shard), key, m.offset_data, m.size, labels[key]) for key, m in images.items()]
    lost = [name for key, name in others.items() if key not in images]
    skipped += [f"{shard}/{name}: not read from shards; make it a JPEG, PNG or WebP." for name in lost]


def _key(member: str) -> tuple[str, str]:
    match = MEMBER.fullmatch(member)
    return (match[1], match[2].lower()) if match else (member, "")


def _label(extension: str, data: bytes, where: str) -> int:
    try:
        return int(LABELS[extension](data))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{where} holds no class number: write one, as 3 or {{"label": 3}}.') from error

"""Finding a dataset's files by folder or pattern, and the part of the dataset that each name tells."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from swinv2.data.sources.base import TRAIN_PARTS, VAL_PARTS

PART = re.compile(rf"(?<![a-z])({'|'.join((*TRAIN_PARTS, *VAL_PARTS))})(?![a-z])", re.IGNORECASE)
GROUP = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


def find_files(path: str, *patterns: str) -> list[Path]:
    """The files that a folder (searched by patterns), a file, or a shell pattern names, sorted."""
    if Path(path).is_dir():
        found = {path: [str(file) for pattern in patterns for file in Path(path).glob(pattern)]}
    elif Path(path).exists():
        found = {path: [path]}
    else:
        found = {pattern: glob.glob(pattern) for pattern in expand(path)}
    for where, files in found.items():
        if not files:
            raise ValueError(f"{where} has no {' or '.join(patterns)} file: check the path.")
    return sorted(Path(file) for files in found.values() for file in files)


def expand(pattern: str) -> list[str]:
    """The patterns that a shell's braces stand for: a{00..12} and a{x,y}; several groups multiply."""
    group = GROUP.search(pattern)
    if not group:
        return [pattern]
    numbers = RANGE.fullmatch(group[1])
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        choices = [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]
    else:
        choices = group[1].split(",")
    return [each for choice in choices for each in expand(pattern[: group.start()] + choice + pattern[group.end() :])]


def group_by_part(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by the part their names tell (train-0000.tar); files whose names tell none are all one train part."""
    parts: dict[str, list[Path]] = {}
    for path in paths:
        parts.setdefault(part_of(path.stem), []).append(path)
    unnamed = parts.pop("", [])
    if unnamed and parts:
        raise ValueError(f"{unnamed[0]} is part of no split: put train or val in its name, or leave it out.")
    return parts or {"train": unnamed}


def part_of(name: str) -> str:
    """The part that a name tells, in lower case, or nothing."""
    match = PART.search(name)
    return match[1].lower() if match else ""

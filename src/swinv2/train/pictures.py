"""Pictures of some validation images beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from swinv2.files import written_aside


def spread(count: int, rows: int) -> Iterator[int]:
    """So many rows, evenly spread over all of them; all where there are fewer."""
    count = min(count, rows)
    return (number * rows // count for number in range(count))


def montage(pictures: Sequence[Image.Image], columns: int = 1) -> Image.Image:
    """Pictures in columns, on white; there must be one."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    width = max(sum(each.width for each in row) for row in rows)
    whole = Image.new("RGB", (width, sum(max(each.height for each in row) for row in rows)), "white")
    top = 0
    for row in rows:
        left = 0
        for each in row:
            whole.paste(each, (left, top))
            left += each.width
        top += max(each.height for each in row)
    return whole


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG file whole, in the place of any other."""
    with written_aside(path) as draft:
        picture.save(draft, format="PNG")

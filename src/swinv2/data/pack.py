"""Any dataset that `swinv2 train` reads to WebDataset shards: few large files, read from front to back.

    python -m swinv2.data.pack --data.path photos --out shards --size 500

It writes train-00000.tar, train-00001.tar, ..., the validation part likewise, and classes.txt; images are copied as
they are stored, in an order that mixes the classes. A module's command rather than a verb of swinv2: it prepares data,
once, and knows no model.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from swinv2.data.image import UnreadableImage, read_image
from swinv2.data.options import DataOptions, Format, Split
from swinv2.data.sources import ImageSource, open_split
from swinv2.files import written_aside

STORED = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}
"""How the files begin that shards hold as they are; other images become PNG."""


def pack(options: DataOptions, out: Path, size: int) -> Iterator[str]:
    """Write both parts of a dataset as shards, and yield a line of what was done for each shard and unreadable image.

    Args:
        options: The dataset.
        out: A new folder.
        size: Largest shard, in bytes of images.

    Raises:
        ValueError: The dataset cannot be read, or the folder exists.
    """
    if out.exists():
        raise ValueError(f"{out} exists: choose another --out, or remove it.")
    parts: dict[Split, ImageSource] = {split: open_split(options, split) for split in ("train", "val")}
    out.mkdir(parents=True)
    with written_aside(out / "classes.txt") as draft:
        draft.write_text("".join(f"{name}\n" for name in parts["train"].classes), encoding="utf-8")
    for split, source in parts.items():
        yield from (f"skipped {line}" for line in source.skipped)
        rows = np.random.default_rng(options.split_seed).permutation(len(source)).tolist()
        yield from _write_part(source, rows, out, split, size)


def _write_part(source: ImageSource, rows: Sequence[int], out: Path, split: Split, size: int) -> Iterator[str]:
    left, number = iter(rows), 0
    while True:
        path = out / f"{split}-{number:05d}.tar"
        with written_aside(path) as draft, tarfile.open(draft, "w") as tar:
            images, skipped = _fill(tar, source, left, size)
        yield from (f"skipped {line}" for line in skipped)
        if not images:
            path.unlink()
            return
        yield f"{path}: {images} images"
        number += 1


def _fill(tar: tarfile.TarFile, source: ImageSource, rows: Iterator[int], size: int) -> tuple[int, list[str]]:
    """Add images until the shard is full; how many, and what could not be read."""
    images, written, skipped = 0, 0, list[str]()
    while written < size:
        row = next(rows, None)
        if row is None:
            break
        try:
            extension, data = _stored(source, row)
        except UnreadableImage as error:
            skipped.append(str(error))
            continue
        for name, content in ((f"{row:09d}.{extension}", data), (f"{row:09d}.cls", str(source.labels[row]).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        images, written = images + 1, written + len(data)
    return images, skipped


def _stored(source: ImageSource, row: int) -> tuple[str, bytes]:
    """Extension and bytes of an image that can be read."""
    raw = source.raw(row)
    if isinstance(raw, Image.Image):
        return "png", _png(raw)
    try:
        data = raw if isinstance(raw, bytes) else raw.read() if hasattr(raw, "read") else Path(raw).read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{source.name(row)}: {error.strerror or error}; repair or remove it.") from error
    image = read_image(data, name=source.name(row))
    known = next((extension for start, extension in STORED.items() if data.startswith(start)), None)
    return (known, data) if known else ("png", _png(image))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m swinv2.data.pack", description=__doc__.split("\n")[0])
    parser.add_argument("--data.path", dest="path", required=True, help="any dataset that swinv2 train reads")
    formats = [each for each in get_args(Format) if each != "videos"]
    parser.add_argument("--data.format", dest="format", default="auto", choices=formats)
    parser.add_argument("--data.val_fraction", dest="val_fraction", type=float, default=0.2)
    parser.add_argument("--data.split_seed", dest="split_seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="new folder for the shards")
    parser.add_argument("--size", type=float, default=300.0, help="largest shard, in MB (default: 300)")
    given = parser.parse_args()
    try:
        if not (given.size > 0 and math.isfinite(given.size)):
            raise ValueError(f"--size {given.size} is no size: give megabytes, as 300.")
        options = DataOptions(
            path=given.path, format=given.format, val_fraction=given.val_fraction, split_seed=given.split_seed
        )
        for line in pack(options, given.out, int(given.size * 1e6)):
            print(line)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

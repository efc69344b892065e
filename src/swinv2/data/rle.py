"""Masks as COCO's run-length codes, ``{"size": [height, width], "counts": text}``.

Runs go down the columns, from the left one on, and begin with that of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval.core import mask as codec

RLE = dict[str, Any]
Runs = npt.NDArray[np.int64]


def encode(mask: npt.NDArray[Any], top: int = 0, left: int = 0, size: tuple[int, int] | None = None) -> RLE:
    """Code of a mask ``[h, w]`` that lies in an image of `size` (height, width), by default its own.

    Only the mask is gone through: the time for a small object in a large image is that of the object.
    """
    height, width = mask.shape if size is None else size
    framed = np.zeros((mask.shape[1], mask.shape[0] + 2), dtype=np.int8)
    framed[:, 1:-1] = (mask != 0).T
    columns, places = np.nonzero(np.diff(framed, axis=1))
    bounds = (columns + left) * height + places + top  # where runs of ones start and end, by turns
    gaps = bounds[1:-1].reshape(-1, 2)
    gaps = gaps[gaps[:, 0] != gaps[:, 1]]  # a run that reaches the bottom may go on at the top of the next column
    runs = np.diff(np.concatenate([[0], bounds[:1], gaps.ravel(), bounds[-1:], [height * width]]))
    return _compressed(runs if runs[-1] else runs[:-1], height, width)


def decode(rle: RLE) -> npt.NDArray[np.uint8]:
    """The mask ``[height, width]`` of a code that `checked` has passed, with 1 inside."""
    height, width = rle["size"]
    runs = _runs(rle["counts"])
    return (np.arange(len(runs)) & 1).astype(np.uint8).repeat(runs).reshape(width, height).T


def checked(segmentation: Any, height: int, width: int) -> RLE:
    """The code of what a data set stores of an object: polygons, runs, or a code.

    Raises:
        ValueError: The runs or the code are not of an image of that size; the message completes "its mask ...".
    """
    if isinstance(segmentation, list):
        return _of_polygons(segmentation, height, width)
    counts = segmentation["counts"]
    runs = _runs(counts) if isinstance(counts, str) else np.asarray(counts, dtype=np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"has {runs.sum()} pixels or is damaged, where {height} x {width} are {height * width}")
    return _compressed(runs, height, width)


def _of_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> RLE:
    """All polygons of an object as one mask; far outside the image they are cut, as their outline is walked."""
    far = 2 * max(height, width)
    parts = codec.frPyObjects([np.clip(polygon, -far, far).tolist() for polygon in polygons], height, width)
    return _as_text(codec.merge(parts))


def _compressed(runs: Runs, height: int, width: int) -> RLE:
    return _as_text(codec.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width))


def _as_text(rle: RLE) -> RLE:
    counts = rle["counts"]
    return {"size": list(map(int, rle["size"])), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def _runs(text: str) -> Runs:
    """Lengths of the runs of a code: each is written in characters of 5 bits, the third and later ones as differences
    to the last but one.

    Read here, not by a library, as a damaged code must not write beyond its mask.
    """
    bits = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) - 48
    if not len(bits) or (bits < 0).any() or (bits > 63).any() or bits[-1] & 32:
        return np.array([-1])
    last = np.flatnonzero(bits & 32 == 0)
    first = np.append(0, last[:-1] + 1)
    places = np.arange(len(bits)) - first.repeat(last - first + 1)
    if places.max() > 11:
        return np.array([-1])
    values = np.add.reduceat((bits & 31) << 5 * places, first)
    values -= np.where(bits[last] & 16, 1 << 5 * (last - first + 1), 0)
    for start in (1, 2):
        values[start::2] = values[start::2].cumsum()
    return values

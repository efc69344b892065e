from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as pycoco

from swinv2.data.rle import checked, decode, encode

SHAPES = [(1, 1), (1, 7), (7, 1), (13, 9), (64, 48)]


def theirs(mask: np.ndarray) -> dict[str, Any]:
    rle = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def random_mask(shape: tuple[int, int], share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_codes_are_those_of_pycocotools(shape: tuple[int, int], share: float) -> None:
    mask = random_mask(shape, share)
    assert encode(mask) == theirs(mask)
    assert np.array_equal(decode(theirs(mask)), mask)


@pytest.mark.parametrize("frame", [(0, 0, 20, 30), (3, 5, 8, 6), (12, 29, 8, 1), (0, 4, 20, 3), (5, 5, 0, 0)])
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_a_part_is_coded_where_it_lies(frame: tuple[int, int, int, int], share: float) -> None:
    """A part as high as the image has runs that go on from column to column."""
    top, left, height, width = frame
    part = random_mask((height, width), share)
    whole = np.zeros((20, 30), dtype=bool)
    whole[top : top + height, left : left + width] = part
    assert encode(part, top, left, (20, 30)) == theirs(whole)


@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_filled_as_pycocotools_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    polygons = [random.uniform(-10, 60, size=2 * random.integers(3, 9)).tolist() for _ in range(3)]
    merged = pycoco.merge(pycoco.frPyObjects(polygons, 50, 40))
    assert np.array_equal(decode(checked(polygons, 50, 40)), pycoco.decode(merged))


def test_polygons_far_away_take_no_memory() -> None:
    assert not decode(checked([[1e12, 1e12, 1e12 + 5, 1e12, 1e12, 1e12 + 5]], 50, 40)).any()


def test_runs_and_codes_are_the_same_mask() -> None:
    mask = random_mask((30, 20), 0.3)
    flat = mask.T.ravel().astype(np.int8)
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat, prepend=0)), [flat.size]])).tolist()
    for stored in (runs, theirs(mask)["counts"]):
        assert checked({"counts": stored}, 30, 20) == theirs(mask)


@pytest.mark.parametrize(
    "counts",
    [
        theirs(random_mask((30, 20), 0.3))["counts"][:-1],
        theirs(random_mask((30, 21), 0.3))["counts"],
        theirs(random_mask((30, 20), 0.3))["counts"] + "5",
        "",
        "~~~",
        "o" * 40,
        "oooooooooooo0",
        [600, -1, 1],
        [599],
        [[600]],
    ],
)
def test_damaged_codes_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match=r"pixels or is damaged, where 30 x 20 are 600"):
        checked({"counts": counts}, 30, 20)

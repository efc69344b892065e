from __future__ import annotations

import math

import pytest
import torch

from swinv2.data.loading import SampleKey
from swinv2.data.masking import Masking, hidden_units


@pytest.mark.parametrize(
    ("total", "ratio", "hidden"),
    [(36, 0.6, 22), (25, 0.6, 15), (100, 0.07, 7), (10, 0.7, 7), (1, 0.1, 1), (9, 1.0, 9), (64, 0.5, 32)],
)
def test_the_number_of_hidden_units_is_exact(total: int, ratio: float, hidden: int) -> None:
    assert hidden_units(total, ratio) == hidden


@pytest.mark.parametrize(
    ("unit", "size", "units"),
    [
        (32, (192, 192), (6, 6)),
        (32, (64, 96), (2, 3)),
        ((8, 16), (32, 32), (4, 2)),
        ((2, 32, 32), (8, 64, 64), (4, 2, 2)),
    ],
)
def test_every_sample_hides_as_many(unit: int | tuple[int, ...], size: tuple[int, ...], units: tuple[int, ...]) -> None:
    masks = Masking(unit=unit, ratio=0.6).batch(size, [SampleKey(0, 0, row) for row in range(50)])
    assert masks.shape == (50, *units)
    assert masks.dtype == torch.bool
    assert set(masks.flatten(1).sum(1).tolist()) == {math.ceil(0.6 * math.prod(units))}


def test_a_mask_depends_on_its_sample_alone() -> None:
    masking = Masking(unit=8)
    keys = [SampleKey(0, 3, row) for row in range(6)]
    whole = masking.batch((64, 64), keys)
    torch.rand(7)
    parts = torch.cat([masking.batch((64, 64), [key]) for key in reversed(keys)]).flip(0)
    assert torch.equal(whole, parts)
    others = [SampleKey(1, 3, 0), SampleKey(0, 4, 0), SampleKey(0, 3, 1)]
    assert not any(torch.equal(whole[0], mask) for mask in masking.batch((64, 64), others))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    Masking().batch((64, 64), [SampleKey(0, 0, 0)])
    assert torch.equal(torch.get_rng_state(), state)


def test_all_units_are_hidden_equally_often() -> None:
    """Of 2000 masks; a share of 0.6 deviates by 0.011, so 6 of that is never met by chance."""
    masks = Masking(unit=8, ratio=0.6).batch((32, 40), [SampleKey(0, 0, row) for row in range(2000)])
    assert (masks.float().mean(0) - 12 / 20).abs().max() < 0.066


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (
            (200, 192),
            "images of 200x192 pixels do not divide into mask units of 32x32: use an image size such as 192x192",
        ),
        ((16, 16), "use an image size such as 32x32, or a mask unit that divides 16x16"),
        ((4, 64, 64), "do not divide into mask units of 32x32x32: use an image size such as 32x64x64"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(size: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Masking().units(size)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unit": 0}, "mask unit 0 is not a positive"),
        ({"unit": (4, 0)}, "mask unit .* is not a positive"),
        ({"ratio": 0.0}, r"mask ratio 0.0 is outside \(0, 1\]"),
        ({"ratio": 1.5}, r"mask ratio 1.5 is outside"),
    ],
)
def test_options_that_mask_nothing_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Masking(**options)


def test_a_unit_for_other_axes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask unit \(4, 4\) has 2 numbers for 3 axes"):
        Masking(unit=(4, 4)).units((4, 8, 8))

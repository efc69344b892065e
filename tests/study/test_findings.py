from __future__ import annotations

import pytest

from swinv2.study.findings import PENDING, Mean, Table, above, alike, mean


def test_a_mean_of_one_training_has_no_deviation() -> None:
    assert mean([]) is None
    assert mean([0.5]) == Mean(0.5, None, 1)
    assert mean([0.4, 0.6]) == Mean(0.5, pytest.approx(0.02**0.5), 2)


def test_values_as_people_read_them() -> None:
    table = Table(name="t", caption="", head=[], rows=[], form="{:.1%}")
    shown = [table.show(value) for value in (Mean(0.5, 0.012, 3), Mean(0.5, None, 1), 0.25, 7, "text", None)]
    assert shown == ["50.0% ± 1.2%", "50.0%", "25.0%", "7", "text", "-"]


def test_a_difference_counts_from_two_standard_errors_on() -> None:
    many = 10**9  # images: counting is exact
    first, second = [0.52, 0.54], [0.50, 0.50]  # error: sqrt(0.0002 / 2) = 0.01
    assert above(first, second, images=many, expected=2).word == "seen"
    assert above(second, first, images=many, expected=2).word == "not seen"
    assert above([0.51, 0.53], second, images=many, expected=2).word == "not visible at this scale"
    assert "two standard errors are 2.0" in above(first, second, images=many, expected=2).why


def test_few_images_hide_a_difference_that_seeds_agree_on() -> None:
    first, second = [0.53, 0.53, 0.53], [0.50, 0.50, 0.50]
    # 2 * sqrt(2 * 0.25 / n) is 14 points at 100 images, 1.4 at 10,000
    assert above(first, second, images=100, expected=3).word == "not visible at this scale"
    assert above(first, second, images=10_000, expected=3).word == "seen"


def test_one_seed_is_judged_by_the_images() -> None:
    assert above([0.8], [0.7], images=10_000, expected=1).word == "seen"


def test_what_is_not_there_yet_is_not_judged() -> None:
    assert above([0.9], [0.1, 0.1], images=1000, expected=2) is PENDING
    assert alike([], [0.1], images=1000, expected=1, within=0.01) is PENDING


def test_alike_within_a_margin_or_within_the_error() -> None:
    many = 10**9
    assert alike([0.505, 0.505], [0.5, 0.5], images=many, expected=2, within=0.01).word == "seen"
    assert alike([0.53, 0.53], [0.5, 0.5], images=many, expected=2, within=0.01).word == "not seen"
    assert alike([0.47, 0.47], [0.5, 0.5], images=many, expected=2, within=0.01).word == "not seen"
    assert alike([0.53, 0.53], [0.5, 0.5], images=100, expected=2, within=0.01).word == "seen"

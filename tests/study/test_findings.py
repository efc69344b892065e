from __future__ import annotations

import math

import pytest

from swinv2.study.base import Cell, Done, guess, values
from swinv2.study.findings import PENDING, STUDENT, Mean, Table, Verdict, above, alike, mean, together

MANY = 10**9
"""Images: counting is exact."""

UNSEEN = "not visible at this scale"


def test_a_mean_of_one_training_has_no_deviation() -> None:
    assert mean([]) is None
    assert mean([0.5]) == Mean(0.5, None, 1)
    assert mean([0.4, 0.6]) == Mean(0.5, pytest.approx(0.02**0.5), 2)


def test_a_mean_leaves_out_what_diverged() -> None:
    assert mean([0.4, math.nan, 0.6]) == mean([0.4, 0.6])
    assert mean([math.nan, math.inf]) is None


def test_values_as_people_read_them() -> None:
    table = Table(name="t", caption="", head=[], rows=[], form="{:.1%}")
    shown = [table.show(value) for value in (Mean(0.5, 0.012, 3), Mean(0.5, None, 1), 0.25, 7, "text", None)]
    assert shown == ["50.0% ± 1.2%", "50.0%", "25.0%", "7", "text", "-"]


def test_students_quantiles() -> None:
    """Against the integral of the density, up to each of them."""
    for freedom, quantile in enumerate(STUDENT, start=1):
        constant = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
        steps = 2000
        places = (quantile * (n + 0.5) / steps for n in range(steps))
        half = sum(constant * (1 + x * x / freedom) ** (-(freedom + 1) / 2) for x in places) * quantile / steps
        assert half == pytest.approx(0.475, abs=1e-4)


def test_a_difference_counts_from_what_seeds_vary_by_on() -> None:
    second = [0.50, 0.52, 0.54]  # deviation 0.02 in both; error 0.02 * sqrt(2 / 3), times 2.776: 4.5 points
    first = [value + 0.046 for value in second]
    assert above(first, second, images=MANY, expected=3).word == "seen"
    assert above(second, first, images=MANY, expected=3).word == "not seen"
    assert above([value + 0.044 for value in second], second, images=MANY, expected=3).word == UNSEEN
    assert (
        above(first, second, images=MANY, expected=3).why
        == "56.6% and 52.0%, +4.6 points, against 4.5 points by chance."
    )


def test_seeds_of_one_side_that_agree_tell_less() -> None:
    # Welch: all of the error is from one side, so that 2 degrees of freedom are left: 4.303 * 0.02 / sqrt(3) = 0.0497
    assert above([0.548, 0.568, 0.588], [0.52] * 3, images=MANY, expected=3).word == UNSEEN
    assert above([0.551, 0.571, 0.591], [0.52] * 3, images=MANY, expected=3).word == "seen"


def test_few_images_hide_a_difference_that_seeds_agree_on() -> None:
    first, second = [0.53, 0.53, 0.53], [0.50, 0.50, 0.50]
    # 2 * sqrt(2 * 0.25 / n) is 14 points at 100 images, 1.4 at 10,000
    assert above(first, second, images=100, expected=3).word == UNSEEN
    assert above(first, second, images=10_000, expected=3).word == "seen"


def test_one_seed_is_judged_by_the_images_or_by_the_least_difference() -> None:
    told = above([0.8], [0.7], images=10_000, expected=1)
    assert told.word == "seen"
    assert "one seed" in told.why
    assert above([1.5], [1.0], expected=1) == (UNSEEN, "1.5 and 1, +0.5, one seed: nothing says what seeds vary by.")
    assert above([1.5], [1.0], expected=1, least=0.4).word == "seen"
    assert "one seed" not in above([0.8, 0.8], [0.7, 0.7], images=10_000, expected=2).why


def test_a_number_alone_is_exact() -> None:
    assert above([1.1, 1.2, 1.3], 1.0, expected=3).word == UNSEEN  # 4.303 * 0.1 / sqrt(3) = 0.248
    assert above([1.2, 1.3, 1.4], 1.0, expected=3).word == "seen"
    assert above(1.0, [1.2, 1.3, 1.4], expected=3).word == "not seen"
    assert above(1.2, 1.0, expected=3).word == "seen"


def test_a_difference_below_the_least_is_not_visible() -> None:
    exact = {"expected": 2}
    assert above([0.0012] * 2, [0.0005] * 2, least=0.01, **exact).word == UNSEEN
    assert "less than 0.01" in above([0.0012] * 2, [0.0005] * 2, least=0.01, **exact).why
    assert above([3.0] * 2, [2.0] * 2, share=1, **exact).word == UNSEEN
    assert above([4.0] * 2, [2.0] * 2, share=1, **exact).word == "seen"
    assert above([2.0] * 2, [4.0] * 2, share=1, **exact).word == "not seen"


def test_what_is_not_there_yet_is_not_judged() -> None:
    assert above([0.9], [0.1, 0.1], images=1000, expected=2) is PENDING
    assert above(0.9, [0.1], expected=2) is PENDING
    assert alike([], [0.1], images=1000, expected=1, within=0.01) is PENDING


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_what_diverged_is_done_but_no_fair_comparison(lost: float) -> None:
    told = above([0.5, lost, 0.5], [0.4, 0.4, 0.4], expected=3)
    assert told == (UNSEEN, "1 of 3 and 0 of 3 diverged, and those that are left are no fair comparison.")
    told = above([0.8, 0.8, 0.8], [lost] * 3, expected=3, images=MANY, guess=0.1)
    assert told == (
        "seen",
        "80.0% and 10.0%, +70.0 points, against 0.0 points by chance, 0 of 3 and 3 of 3 diverged "
        "and count as guessing.",
    )


def test_alike_where_even_the_error_leaves_no_room_for_more() -> None:
    half = [0.5, 0.5]
    assert alike([0.505, 0.505], half, images=MANY, expected=2, within=0.01).word == "seen"
    assert alike([0.53, 0.53], half, images=MANY, expected=2, within=0.01).word == "not seen"
    assert alike([0.47, 0.47], half, images=MANY, expected=2, within=0.01).word == "not seen"
    assert alike(half, half, images=100, expected=2, within=0.01).word == UNSEEN, "14 points of error"
    assert alike([0.53, 0.53], half, images=100, expected=2, within=0.01).word == UNSEEN
    assert alike([0.505], [0.5], expected=1, within=0.01).word == UNSEEN, "one seed, no images"


def test_a_claim_of_several_comparisons_is_as_good_as_the_worst() -> None:
    seen, hidden, wrong = Verdict("seen", "2."), Verdict(UNSEEN, "1."), Verdict("not seen", "0.")
    assert together({"a": seen, "b": seen}) == ("seen", "a: 2; b: 2.")
    assert together({"a": seen, "b": hidden}).word == UNSEEN
    assert together({"a": hidden, "b": wrong, "c": seen}).word == "not seen"
    assert together({"a": wrong, "b": PENDING}) is PENDING


def test_what_diverged_is_done() -> None:
    def done(seed: int, tuned: bool = False, **figures: object) -> Done:
        return Done(Cell(factors={"kind": "log", "seed": seed, **({"tuned": "tuned"} if tuned else {})}), figures)

    results = [
        done(0, diverged=None, top1=0.5, classes=4),
        done(1, diverged="the loss is nan", top1=None, classes=4),
        done(0, tuned=True, diverged="log-0 diverged", classes=4),
    ]
    first, second = values(results, "top1", kind="log", tuned=None)
    assert first == 0.5
    assert math.isnan(second)
    assert values(results[:1], "growth") == []
    assert guess(results) == 0.25

"""Geometry against brute force: explicit loops over coordinates, for random grids, windows and shifts of 1 to 3
axes."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinv2.geometry import (
    group_mask,
    inverse_order,
    layout,
    linear_coordinates,
    log_coordinates,
    whole_windows,
    window_groups,
    window_order,
)


@st.composite
def cases(draw):
    axes = draw(st.integers(1, 3))
    most = {1: 20, 2: 10, 3: 6}[axes]
    grid = tuple(draw(st.integers(1, most)) for _ in range(axes))
    window = tuple(draw(st.integers(1, most)) for _ in range(axes))
    shift = tuple(draw(st.integers(0, w - 1)) for w in window)
    return grid, window, shift


def brute_force(grid, window, shift):
    """Windows as lists of (padded coordinates, was it rolled on each axis), from a roll of explicit coordinates."""
    run = [(g, 0) if g <= w else (w, s) for g, w, s in zip(grid, window, shift, strict=True)]
    padded = [-(-g // w) * w for g, (w, _) in zip(grid, run, strict=True)]
    windows = {}
    for place in itertools.product(*map(range, padded)):
        key = tuple(x // w for x, (w, _) in zip(place, run, strict=True))
        source = tuple((x + s) % p for x, (_, s), p in zip(place, run, padded, strict=True))
        rolled = tuple(x + s >= p for x, (_, s), p in zip(place, run, padded, strict=True))
        windows.setdefault(key, []).append((source, rolled))
    return windows


@given(cases(), st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_windows_and_masks_equal_brute_force(case, batch):
    grid, window, shift = case
    axes = layout(grid, window, shift)
    expected = brute_force(grid, window, shift)
    strides = [int(torch.tensor(grid[i + 1 :]).prod()) for i in range(len(grid))]
    order = window_order(axes, batch)
    tokens = int(torch.tensor(grid).prod())
    start, seen = 0, set()
    for group in window_groups(axes):
        mask = group_mask(axes, group)
        for image in range(batch):
            for key in itertools.product(*(range(first, stop) for first, stop in group.spans)):
                members = expected[key]
                places = order[start : start + len(members)]
                start += len(members)
                real = [all(c < g for c, g in zip(source, grid, strict=True)) for source, _ in members]
                want = [
                    image * tokens + sum(c * s for c, s in zip(source, strides, strict=True)) if ok else -1
                    for (source, _), ok in zip(members, real, strict=True)
                ]
                assert places.tolist() == want
                seen.add((image, key))
                may = torch.tensor(
                    [[ok_k and a == b for (_, b), ok_k in zip(members, real, strict=True)] for _, a in members]
                )
                got = torch.ones_like(may) if mask is None else mask
                assert torch.equal(got[torch.tensor(real)], may[torch.tensor(real)])
                assert got.any(1).all(), "every query sees a key, padding too"
    assert start == order.numel()
    assert len(seen) == batch * len(expected)


@given(cases(), st.integers(1, 2))
@settings(max_examples=100, deadline=None)
def test_every_token_stands_in_exactly_one_place(case, batch):
    axes = layout(*case)
    order = window_order(axes, batch)
    tokens = batch * int(torch.tensor(case[0]).prod())
    assert sorted(order[order >= 0].tolist()) == list(range(tokens))
    assert torch.equal(order[inverse_order(order, tokens)], torch.arange(tokens))


@given(cases())
@settings(max_examples=100, deadline=None)
def test_few_groups_need_a_mask(case):
    axes = layout(*case)
    groups = list(window_groups(axes))
    assert sum(group.windows for group in groups) == int(torch.tensor([axis.count for axis in axes]).prod())
    assert len(groups) <= 3 ** len(axes)
    assert [group_mask(axes, group) for group in groups[1:]].count(None) == 0


@given(cases())
@settings(max_examples=100, deadline=None)
def test_whole_windows_hold_the_same_tokens_as_those_that_shrink(case):
    for whole, shrunk in zip(whole_windows(*case), layout(*case), strict=True):
        assert (whole.count, whole.shift) == (shrunk.count, shrunk.shift)
        assert whole.window >= shrunk.window
        coordinates = whole.coordinates()
        assert torch.equal(coordinates.flatten()[whole.places()], torch.arange(whole.grid))
        assert torch.equal(coordinates[:, : shrunk.window], shrunk.coordinates())
        assert (coordinates[:, shrunk.window :] >= whole.grid).all()


@given(cases())
@settings(max_examples=100, deadline=None)
def test_tags_of_all_windows_are_those_of_each(case):
    for axis in whole_windows(*case):
        tags = [axis.tags(axis.count - 1 - window) for window in range(axis.count)]
        assert torch.equal(axis.all_tags(), torch.stack(tags))


@pytest.mark.parametrize(
    ("grid", "window", "shift", "run"),
    [
        ((8, 8), (8, 8), (4, 4), [(8, 0), (8, 0)]),  # map equal to the window: no shift
        ((3, 20), (8, 8), (4, 4), [(3, 0), (8, 4)]),  # smaller on one axis: that axis shrinks, the other stays
        ((9, 9), (8, 8), (4, 4), [(8, 4), (8, 4)]),
    ],
)
def test_a_window_that_covers_the_map_shrinks_and_does_not_shift(grid, window, shift, run):
    assert [(axis.window, axis.shift) for axis in layout(grid, window, shift)] == run


def test_shift_must_be_below_the_window():
    with pytest.raises(ValueError, match="shift"):
        layout((8,), (4,), (4,))
    with pytest.raises(ValueError, match="one number per axis"):
        layout((8, 8), (4,), (0,))


def test_log_coordinates_extrapolate_from_the_trained_window():
    """Trap 4: a model trained at window 8 and run at 10 reaches 1.1655; renormalising to the new window gives
    1.0566."""
    assert log_coordinates((10, 10), (8, 8)).max().item() == pytest.approx(math.log2(8 * 9 / 7 + 1) / 3, abs=1e-6)
    assert log_coordinates((8, 8), (8, 8)).max().item() == pytest.approx(math.log2(9) / 3, abs=1e-6)
    inner = log_coordinates((10, 10), (8, 8))[2:-2, 2:-2]
    assert torch.equal(inner, log_coordinates((8, 8), (8, 8)))


def test_coordinates_are_query_minus_key():
    linear = linear_coordinates((3, 2), (3, 1))
    assert linear[:, 0, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert linear[0, :, 1].tolist() == [-1.0, 0.0, 1.0]  # p = 1 divides by 1
    assert linear.shape == (5, 3, 2)


def test_the_papers_extrapolation_ratios():
    """Section 3.3: from window 8 to 16, the coordinates' range grows 1.14x linearly, but 0.33x with the logarithm of
    eq. 4."""
    linear = linear_coordinates((16,), (8,)).max() / linear_coordinates((8,), (8,)).max() - 1
    raw = torch.log1p(torch.tensor(15.0)) / torch.log1p(torch.tensor(7.0)) - 1
    assert linear.item() == pytest.approx(1.14, abs=5e-3)
    assert raw.item() == pytest.approx(0.33, abs=5e-3)

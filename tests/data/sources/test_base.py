from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swinv2.data.sources.base import by_split, check_labels, shared_classes, stratified_split


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 100),
)
def test_split_is_exact_and_every_class_is_on_both_sides(labels: list[int], fraction: float, seed: int) -> None:
    train, val = stratified_split(labels, fraction, seed)
    assert sorted(train + val) == list(range(len(labels)))
    held_out = Counter(labels[i] for i in val)
    for label, count in Counter(labels).items():
        wanted = min(max(round(fraction * count), 1), count - 1)
        assert held_out[label] == wanted


def test_split_is_random_but_seeded() -> None:
    labels = [0, 1] * 50
    assert stratified_split(labels, 0.2, 0) == stratified_split(labels, 0.2, 0)
    assert stratified_split(labels, 0.2, 0) != stratified_split(labels, 0.2, 1)
    assert stratified_split(labels, 0.2, 0)[1] != list(range(20))


@pytest.mark.parametrize(
    ("parts", "chosen"),
    [
        ({"train": 1, "val": 2, "test": 3}, {"train": 1, "val": 2}),
        ({"train": 1, "test": 3, "validation": 4}, {"train": 1, "val": 4}),
        ({"train": 1, "extra": 2}, {"train": 1}),
        ({"test": 3}, {"val": 3}),
        ({"training": 1, "testing": 2}, {"train": 1, "val": 2}),
        ({"extra": 2}, {}),
    ],
)
def test_first_validation_part_is_taken(parts: dict[str, int], chosen: dict[str, int]) -> None:
    assert by_split(parts) == chosen


def test_disagreeing_classes_are_named() -> None:
    with pytest.raises(ValueError, match=r"photos differ in crow, owl"):
        shared_classes({"train": ("cat", "owl"), "val": ("cat", "crow")}, "photos")
    with pytest.raises(ValueError, match="their order"):
        shared_classes({"train": ("cat", "owl"), "val": ("owl", "cat")}, "photos")


@pytest.mark.parametrize("label", [-1, 2])
def test_label_outside_the_classes_is_named(label: int) -> None:
    with pytest.raises(ValueError, match=rf"shards has label {label}, outside its 2 classes"):
        check_labels([0, 1, label], ("cat", "dog"), "shards")

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from swinv2.data.options import DataOptions
from swinv2.data.sources import open_split


def test_split_is_scikit_learns() -> None:
    data = load_digits()
    _, pixels, _, labels = train_test_split(
        data.images, data.target, test_size=0.2, stratify=data.target, random_state=0
    )
    train, val = open_split(DataOptions(path="digits"), "train"), open_split(DataOptions(path="digits"), "val")
    assert (len(train), len(val)) == (1437, 360)
    assert train.classes == val.classes == tuple("0123456789")
    assert list(val.labels) == labels.tolist()
    for index in (0, 100, 359):
        assert np.array_equal(np.asarray(val.image(index, 1)), np.round(pixels[index] * 255 / 16))


def test_sides_share_no_digit() -> None:
    train, val = open_split(DataOptions(path="digits"), "train"), open_split(DataOptions(path="digits"), "val")
    names = [source.name(index) for source in (train, val) for index in range(len(source))]
    assert len(set(names)) == 1797


def test_fraction_and_seed_count() -> None:
    half = open_split(DataOptions(path="digits", val_fraction=0.5), "val")
    other = open_split(DataOptions(path="digits", val_fraction=0.5, split_seed=1), "val")
    assert len(half) == len(other) == 899
    assert {half.name(index) for index in range(899)} != {other.name(index) for index in range(899)}

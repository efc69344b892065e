from __future__ import annotations

import json

import pytest

from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

FIELDS = {"size": (24, 32), "mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def test_survives_json() -> None:
    made = Preprocessing(size=(24, 32), mean=(0.5,), std=(0.25,), crop_fraction=0.9, interpolation="bilinear")
    assert Preprocessing.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_channels_follow_from_the_mean() -> None:
    assert Preprocessing(**FIELDS).channels == 3
    assert Preprocessing(size=(8, 8), mean=(0.5,), std=(0.5,)).channels == 1


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"size": (24,)}, r"\(24,\)"),
        ({"size": (24, 0)}, r"\(24, 0\)"),
        ({"mean": (0.5,)}, r"\(0.5,\)"),
        ({"mean": (), "std": ()}, r"\(\)"),
        ({"std": (0.2, 0.0, 0.2)}, "not positive"),
        ({"crop_fraction": 0.0}, r"0\.0"),
        ({"crop_fraction": 1.1}, r"1\.1"),
        ({"interpolation": "cubic"}, "'cubic'.*bicubic"),
    ],
)
def test_impossible_values_are_named(changed: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Preprocessing(**(FIELDS | changed))


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match="gamma"):
        Preprocessing.from_dict({**FIELDS, "gamma": 2.2})

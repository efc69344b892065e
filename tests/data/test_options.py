from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from swinv2.data.options import AugmentOptions, DataOptions

PUBLISHED = {
    "crop": "random_resized",
    "scale": (0.08, 1.0),
    "ratio": (0.75, 4 / 3),
    "hflip": 0.5,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "color_jitter": 0.4,
    "erase": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "mix_prob": 1.0,
    "mix_switch": 0.5,
    "label_smoothing": 0.1,
    "interpolation": "bicubic",
}


def test_augmentation_is_the_published_recipe_by_default() -> None:
    assert {name: getattr(AugmentOptions(), name) for name in PUBLISHED} == PUBLISHED


@pytest.mark.parametrize("options", [DataOptions, AugmentOptions])
def test_command_line_can_explain_every_field(options: type) -> None:
    undocumented = [field.name for field in fields(options) if f"\n        {field.name}: " not in str(options.__doc__)]
    assert not undocumented


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (DataOptions, "val_fraction", 0.0),
        (DataOptions, "val_fraction", 1.0),
        (DataOptions, "workers", -1),
        (AugmentOptions, "hflip", 1.5),
        (AugmentOptions, "label_smoothing", -0.1),
        (AugmentOptions, "mixup", -1.0),
        (AugmentOptions, "scale", (0.5, 0.1)),
        (AugmentOptions, "scale", (0.5, 1.2)),
        (AugmentOptions, "ratio", (0.0, 1.0)),
        (AugmentOptions, "interpolation", "cubic"),
    ],
)
def test_impossible_values_are_named(options: type, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{str(value).strip('()')}"):
        options(**{name: value})


def test_reading_a_recipe_needs_no_torch() -> None:
    check = "import sys, swinv2.data.options, swinv2.preprocessing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

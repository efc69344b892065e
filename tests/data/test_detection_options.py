from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

from swinv2.data.detection_options import (
    CocoLayout,
    DetectionAugmentOptions,
    DetectionDataOptions,
    DetectionTestOptions,
)

PUBLISHED = {"resize": "short_side", "short_side": (480, 800), "long_side": 1333, "hflip": 0.5, "instaboost": 0.0}
HTC = {"jitter_size": (1536, 1536), "jitter_scale": (0.1, 2.0)}


def test_augmentation_is_the_published_recipe_by_default() -> None:
    options = DetectionAugmentOptions()
    assert {name: getattr(options, name) for name in PUBLISHED | HTC} == PUBLISHED | HTC


@pytest.mark.parametrize("options", [CocoLayout, DetectionDataOptions, DetectionAugmentOptions, DetectionTestOptions])
def test_command_line_can_explain_every_field(options: type) -> None:
    undocumented = [field.name for field in fields(options) if f"\n        {field.name}: " not in str(options.__doc__)]
    assert not undocumented


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        (DetectionDataOptions, {"val_fraction": 1.0}, "val_fraction 1.0"),
        (DetectionDataOptions, {"workers": -1}, "workers -1"),
        (DetectionAugmentOptions, {"hflip": 1.5}, "hflip 1.5"),
        (DetectionAugmentOptions, {"instaboost": -0.5}, "instaboost -0.5"),
        (DetectionAugmentOptions, {"short_side": (800, 480)}, r"short_side \(800, 480\)"),
        (DetectionAugmentOptions, {"jitter_scale": (0.0, 2.0)}, r"jitter_scale \(0\.0, 2\.0\)"),
        (DetectionAugmentOptions, {"short_step": 0}, "short_step 0"),
        (DetectionAugmentOptions, {"long_side": 0}, "long_side 0"),
        (DetectionAugmentOptions, {"max_objects": 0}, "max_objects 0"),
        (DetectionAugmentOptions, {"jitter_size": (0, 8)}, r"jitter_size \(0, 8\)"),
        (DetectionAugmentOptions, {"color_jitter": -1.0}, "color_jitter -1.0"),
        (DetectionTestOptions, {"short_sides": (800, 0)}, r"short_sides \(800, 0\)"),
        (DetectionTestOptions, {"short_sides": (800,), "ranges": ((0, 9), (9, 99))}, "2 ranges do not fit 1"),
        (DetectionTestOptions, {"short_sides": (800,), "ranges": ((9, 9),)}, r"ranges has \(9, 9\)"),
        (DetectionTestOptions, {"long_side": 0}, "long_side 0"),
        (DetectionTestOptions, {"max_detections": 0}, "max_detections 0"),
        (DetectionTestOptions, {"tile": -1}, "tile -1"),
        (DetectionTestOptions, {"overlap": 1.0}, "overlap 1.0"),
    ],
)
def test_impossible_values_are_named(options: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**values)


def test_reading_a_recipe_needs_no_torch() -> None:
    check = "import sys, swinv2.data.detection_options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

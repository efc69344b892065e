"""What the command line tells and writes of a detector's results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swinv2.config import make_config
from swinv2.info import ModelInfo
from swinv2.model.detect.native import SwinDetector
from swinv2.preprocessing import Preprocessing
from swinv2.storage import Stored, write

SMALL = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bilinear")
HEADS: dict[str, Any] = {"pyramid_channels": 8, "box_features": 8, "score_threshold": 0.0, "suppression_iou": 1.0}
"""Every proposal is a detection of every class, and none suppresses another."""
TRIANGLE = [[2.0, 2.0, 26.0, 2.0, 2.0, 22.0]]
Run = Callable[..., Any]


@pytest.fixture
def weights(tmp_path: Path, randomise: Callable[..., SwinDetector]) -> Path:
    """A detector of random weights."""
    config = make_config(
        "swinv2_nano", image_size=32, window_size=2, embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 2),
        num_classes=2,
    )  # fmt: skip
    model = randomise(SwinDetector(config, masks=True, **HEADS))
    info = replace(ModelInfo(), classes=("car", "owl"), preprocessing=SMALL)
    write(tmp_path / "w.safetensors", Stored(config, model.state_dict(), info, model.kind, model.head_config))
    return tmp_path / "w.safetensors"


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def test_what_there_are_no_objects_of_is_null_and_a_dash(
    swinv2: Run, weights: Path, coco_file: Callable[..., Path]
) -> None:
    data = coco_file(annotations=[{"image_id": 1, "category_id": 3, "bbox": [2, 2, 24, 20], "segmentation": TRIANGLE}])
    measure = ("evaluate", "--weights", weights, "--data.path", data, "--data.workers", 0, "--split", "all")
    results = json.loads(swinv2(*measure, "--format", "json").out, parse_constant=refuse)
    assert (results["box_ap_large"], results["mask_ap_large"]) == (None, None)
    assert set(results["classes"]["owl"].values()) == {None}
    assert all(0 <= value <= 1 for value in (results["box_ap"], *results["classes"]["car"].values()))
    rows = [line.split() for line in swinv2(*measure).out.splitlines()]
    assert ["owl", "-", "-", "-", "-"] in rows
    assert ["box_ap_large", "-"] in rows
    assert not any("nan" in cell for row in rows for cell in row)


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_batches_have_an_image_or_more(swinv2: Run, weights: Path, coco_file: Callable[..., Path], count: str) -> None:
    told = swinv2("evaluate", "--weights", weights, "--data.path", coco_file().parent, "--batch-size", count)
    assert (told.status, told.out, told.err.count("\n")) == (2, "", 1)
    assert "batch_size" in told.err

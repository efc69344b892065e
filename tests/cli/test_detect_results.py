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
HEADS: dict[str, Any] = {
    "pyramid_channels": 8,
    "box_features": 8,
    "proposals_before_nms": (150, 150),
    "proposals_after_nms": (150, 150),
    "proposal_nms_iou": 1.0,
    "score_threshold": 0.0,
    "suppression_iou": 1.0,
}
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


@pytest.mark.parametrize("look", [(), ("--test.flip", "true"), ("--test.tile", 30)], ids=["once", "flip", "tile"])
def test_as_many_objects_are_told_as_asked_for(
    swinv2: Run, weights: Path, coco_file: Callable[..., Path], look: tuple[object, ...]
) -> None:
    """Through the detector's limit of a look, the suppression of several, and the merging."""
    coco_file(images={"a.png": (40, 30)})
    for limit, wanted in ((), 100), (("--test.max_detections", 7), 7), (("--test.max_detections", 250), 250):
        status, out, err = swinv2(
            "predict", weights.parent / "images", "--weights", weights, "--threshold", 0, "--format", "json", *look,
            *limit,
        )  # fmt: skip
        assert status == 0, err
        assert len(json.loads(out)[0]["objects"]) == wanted


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


def test_predictions_of_joined_files_need_ids_of_their_own(
    swinv2: Run, weights: Path, coco_file: Callable[..., Path], tmp_path: Path
) -> None:
    """Both files number their image 1, until the second numbers it 2."""
    found = tmp_path / "found.json"
    triangle = {"category_id": 3, "bbox": [2, 2, 24, 20], "segmentation": TRIANGLE}
    for part in ("train", "val"):
        root = coco_file(f"{part}.json", images={f"{part}.png": (40, 30)}, annotations=[{"image_id": 1, **triangle}])
    measure = ("evaluate", "--weights", weights, "--data.path", root.parent, "--data.workers", 0, "--split", "all")
    status, out, err = swinv2(*measure, "--predictions", found)
    assert (status, out, err.count("\n"), found.exists()) == (2, "", 1, False)
    assert "have different images of the same id 1, by which predictions name them" in err
    assert swinv2(*measure).status == 0
    image = {"id": 2, "file_name": "val.png", "width": 40, "height": 30}
    annotation = {"id": 1, "image_id": 2, "iscrowd": 0, **triangle}
    coco_file("val.json", images={}, changes={"images": [image], "annotations": [annotation]})
    assert swinv2(*measure, "--predictions", found).status == 0
    assert {entry["image_id"] for entry in json.loads(found.read_text())} == {1, 2}


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_batches_have_an_image_or_more(swinv2: Run, weights: Path, coco_file: Callable[..., Path], count: str) -> None:
    told = swinv2("evaluate", "--weights", weights, "--data.path", coco_file().parent, "--batch-size", count)
    assert (told.status, told.out, told.err.count("\n")) == (2, "", 1)
    assert "batch_size" in told.err

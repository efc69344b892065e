"""Odd and bad data of detection at the command line: handled with a remark, or refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from swinv2.train.folder import RunFolder

RECIPE = """
task: detect
model:
  image_size: 32
  window_size: 2
  overrides: {embed_dim: 8, depths: [1, 1], num_heads: [1, 2], patch_size: [2, 2]}
data: {workers: 0}
detect:
  detector: mask_rcnn
  heads: {pyramid_channels: 8, box_features: 8, proposals_before_nms: [50, 50], proposals_after_nms: [20, 20],
          score_threshold: 0.0}
  augment: {short_side: [24, 32], short_step: 4, long_side: 48}
optimizer: {base_lr: 0.05}
schedule: {warmup_epochs: 0}
trainer: {epochs: 1, batch_size: 2, accelerator: cpu}
"""
TRIANGLE = [[2.0, 2.0, 26.0, 2.0, 2.0, 22.0]]
PIXEL = [[0, 0, 1, 0, 1, 1, 0, 1]]
Run = Callable[..., Any]


def annotated(image: int, bbox: Any = (2, 2, 24, 20), segmentation: Any = TRIANGLE, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": 3, "bbox": list(bbox), "segmentation": segmentation, **more}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def make(coco_file: Callable[..., Path]) -> Callable[..., Path]:
    """A data set of a plain training image and a plain validation image, with changes to either file."""

    def write(train: dict[str, Any] | None = None, val: dict[str, Any] | None = None) -> Path:
        for part, changes in (("train", train), ("val", val)):
            plain = {"images": {f"{part}.png": (40, 30)}, "annotations": [annotated(1)]}
            root = coco_file(f"{part}.json", **plain | (changes or {})).parent
        return root

    return write


@pytest.fixture
def odd(make: Callable[..., Path]) -> Path:
    """Everything at once that is no reason to stop."""
    sizes = {"plain": (40, 30), "pixel": (1, 1), "bare": (40, 30), "full": (40, 30), "gone": (40, 30), "strip": (60, 2)}
    objects = [
        annotated(1),
        annotated(1, (5, 5, 0, 9)),
        annotated(1, (90, 90, 5, 5)),
        annotated(1, (30, 20, 20, 20), [[30, 20, 50, 20, 50, 40]]),
        annotated(1, iscrowd=1, segmentation={"size": [30, 40], "counts": [100, 50, 1050]}),
        annotated(2, (0, 0, 1, 1), PIXEL),
        *(
            annotated(4, (n % 30, n % 25, 8, 4), [[n % 30, n % 25, n % 30 + 8, n % 25, n % 30, n % 25 + 4]])
            for n in range(1100)
        ),
        annotated(5),
        annotated(6, (3, 0, 40, 2), [[3, 0, 43, 0, 43, 2, 3, 2]], category_id=7),
    ]
    changes = {
        part: {"images": {f"{part}-{name}.png": size for name, size in sizes.items()}, "annotations": objects}
        for part in ("train", "val")
    }
    root = make(**changes)
    for part in changes:
        (root / "images" / f"{part}-gone.png").unlink()
    (root / "images" / "train-strip.png").write_bytes(b"damaged")
    return root


def test_what_is_odd_is_handled_and_told(swinv2: Run, recipe: Path, odd: Path, tmp_path: Path) -> None:
    status, out, err = swinv2("train", recipe, "--data.path", odd, "--out", tmp_path / "run")
    assert status == 0, err
    for told in (
        "1 boxes without area were left out",
        "1 boxes outside their image were left out",
        "1 boxes reach beyond their image",
        "1 images without objects are not trained on",
    ):
        assert told in out
    folder = RunFolder(tmp_path / "run")
    skipped = (folder.path / "skipped.txt").read_text()
    for name in ("train-gone.png", "val-gone.png", "train-strip.png"):
        assert name in skipped
    measure = ("evaluate", "--weights", folder.best, "--data.path", odd, "--data.workers", 0, "--format", "json")
    found = tmp_path / "found.json"
    for looks in ((), ("--test.flip", "true")):
        status, out, err = swinv2(*measure, *looks, "--predictions", found, "--overwrite")
        assert status == 0, err
        results = json.loads(out)
        assert (results["images"], results["skipped"], list(results["classes"])) == (5, 1, ["car", "owl"])
        assert {entry["category_id"] for entry in json.loads(found.read_text())} <= {3, 7}
    photos = [odd / "images" / f"{name}.png" for name in ("val-pixel", "val-bare", "val-strip", "train-strip")]
    predict = ("predict", *photos, "--weights", folder.best, "--threshold", 0, "--pictures", tmp_path / "pictures")
    status, out, err = swinv2(*predict, "--format", "json")
    assert status == 0, err
    assert len(json.loads(out)) == 3
    assert "3 images, 1 files skipped" in err


REFUSED = {
    "no images": ({"val": {"images": {}, "annotations": []}}, "val.json has no images: check data.path."),
    "no objects to measure": ({"val": {"annotations": []}}, "val.json has no objects in its images: AP is measured"),
    "no objects to learn": ({"train": {"annotations": []}}, "train.json has no objects in its training images"),
    "only crowds": ({"train": {"annotations": [annotated(1, iscrowd=1)]}}, "has no objects in its training images"),
    "no files": ({"train": {"folder": None, "images": {"no.png": (4, 4)}}}, "there is no no.png of"),
    "a mask of another size": (
        {"train": {"annotations": [annotated(1, segmentation={"size": [40, 30], "counts": [0, 1200]})]}},
        "has a mask of height and width [40, 30] in an image of [30, 40]: correct either.",
    ),
    "a mask of too few pixels": (
        {"val": {"annotations": [annotated(1, segmentation={"size": [30, 40], "counts": [0, 1000]})]}},
        "has a mask that has 1000 pixels or is damaged, where 30 x 40 are 1200: correct it.",
    ),
    "no masks": (
        {"train": {"annotations": [annotated(1, segmentation=None)]}},
        "has no segmentation: add it, or train",
    ),
    "another category": (
        {"train": {"annotations": [annotated(1, category_id=4)]}},
        "has category 4, which the file does",
    ),
}


@pytest.mark.parametrize("changes", REFUSED)
def test_what_cannot_be_trained_on_is_one_sentence(
    swinv2: Run, recipe: Path, make: Callable[..., Path], tmp_path: Path, changes: str
) -> None:
    parts, sentence = REFUSED[changes]
    status, out, err = swinv2("train", recipe, "--data.path", make(**parts), "--out", tmp_path / "run")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert sentence in err
    assert not (tmp_path / "run").exists()


def test_an_image_of_another_size_stops_the_first_step(
    swinv2: Run, recipe: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    root = make()
    Image.new("RGB", (30, 40)).save(root / "images" / "train.png")
    status, _, err = swinv2("train", recipe, "--data.path", root, "--out", tmp_path / "run")
    assert (status, err.count("\n")) == (2, 1), err
    assert "train.png is 30x40 pixels, but" in err


def test_a_loss_that_is_no_number_is_one_sentence(
    swinv2: Run, recipe: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    rate = ("--optimizer.base_lr", "1e30", "--optimizer.clip_norm", "null", "--trainer.epochs", 4)
    status, _, err = swinv2("train", recipe, "--data.path", make(), "--out", tmp_path / "run", *rate)
    assert (status, err.count("\n")) == (2, 1), err
    assert "lower optimizer.base_lr" in err


def test_semantic_maps_are_asked_for_and_learnt_from(
    swinv2: Run, recipe: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    root = make()
    train = ("train", recipe, "--data.path", root, "--out", tmp_path / "run", "--detect.detector", "htc")
    heads = "{semantic_classes: 5, pyramid_channels: 8, box_features: 8, proposals_after_nms: [20, 20]}"
    status, _, err = swinv2(*train, "--detect.heads", heads)
    assert (status, err.count("\n")) == (2, 1)
    assert "there are no semantic maps beside" in err
    (root / "semantic").mkdir()
    Image.new("L", (40, 30), 4).save(root / "semantic" / "train.png")
    status, _, err = swinv2(*train, "--detect.heads", heads)
    assert status == 0, err


def test_what_cannot_be_measured_is_one_sentence(
    swinv2: Run, recipe: Path, make: Callable[..., Path], coco_file: Callable[..., Path], tmp_path: Path
) -> None:
    root = make()
    assert swinv2("train", recipe, "--data.path", root, "--out", tmp_path / "run").status == 0
    best = RunFolder(tmp_path / "run").best
    (root / "images" / "val.png").write_bytes(b"damaged")
    for file, changes, sentence in (
        ("empty.json", {"images": {}, "annotations": []}, "has no images: check data.path"),
        ("bare.json", {"annotations": []}, "has no objects in its images: AP is measured on some."),
        ("val.json", None, "none of the 1 images of"),
    ):
        path = root / file if changes is None else coco_file(file, **changes)
        status, out, err = swinv2("evaluate", "--weights", best, "--data.path", path, "--split", "all")
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert sentence in err

"""Detection by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from swinv2.model.detect.batch import pad_images
from swinv2.tasks.models import load_model
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
optimizer: {base_lr: 0.5}
schedule: {warmup_epochs: 0}
trainer: {epochs: 2, batch_size: 2, accelerator: cpu}
"""
SIZES = {f"{number}.png": (40, 30) for number in range(4)}
TRIANGLE = [[2.0, 2.0, 26.0, 2.0, 2.0, 22.0]]
Run = Callable[..., Any]


@pytest.fixture
def data(coco_file: Callable[..., Path]) -> Path:
    """Four images to train on and three to measure, with a triangle on each but the last of each."""
    for part, count in (("train", 4), ("val", 3)):
        images = {f"{part}-{name}": size for name, size in list(SIZES.items())[:count]}
        triangles = [
            {"image_id": number, "category_id": 3, "bbox": [2, 2, 24, 20], "segmentation": TRIANGLE}
            for number in range(1, count)
        ]
        root = coco_file(f"{part}.json", images=images, annotations=triangles).parent
    return root


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def folder(swinv2: Run, recipe: Path, data: Path, tmp_path: Path) -> RunFolder:
    status, _, err = swinv2("train", recipe, "--data.path", data, "--out", tmp_path / "run")
    assert (status, err) == (0, "")
    return RunFolder(tmp_path / "run")


def evaluated(swinv2: Run, weights: Path, data: Path, *arguments: object) -> Any:
    status, out, err = swinv2(
        "evaluate", "--weights", weights, "--data.path", data, "--data.workers", 0, *arguments, "--format", "json"
    )
    assert status == 0, err
    return json.loads(out)


def test_a_run_leaves_what_evaluates_and_predicts(swinv2: Run, folder: RunFolder, data: Path, tmp_path: Path) -> None:
    assert {"best.safetensors", "curves.png", "detections.png", "metrics.csv"} <= set(folder.contents())
    best = max(folder.rows, key=lambda row: row["val_box_ap"] or 0.0)
    found = tmp_path / "found.json"
    results = evaluated(swinv2, folder.best, data, "--batch-size", 2, "--predictions", found)  # as in training
    for name in ("box_ap", "box_ap50", "mask_ap", "mask_ap50"):
        assert results[name] == pytest.approx(best[f"val_{name}"], abs=1e-6)
    assert (results["images"], list(results["classes"])) == (3, ["car", "owl"])
    entries = json.loads(found.read_text())
    assert {entry["category_id"] for entry in entries} <= {3, 7}
    assert {entry["image_id"] for entry in entries} <= {1, 2, 3}
    assert all(entry["segmentation"]["size"] == [30, 40] for entry in entries)

    pictures = tmp_path / "pictures"
    told = swinv2(
        "predict", data / "images" / "val-0.png", "--weights", folder.best, "--threshold", 0, "--pictures", pictures,
        "--format", "coco",
    )  # fmt: skip
    assert told.status == 0, told.err
    assert [path.name for path in pictures.iterdir()] == ["val-0.png"]
    ours, theirs = ([entry for entry in entries if entry["image_id"] == 1], json.loads(told.out)["annotations"])
    assert theirs
    best_scores = [max(entry["score"] for entry in each) for each in (ours, theirs)]  # others are nearly equal
    assert best_scores[0] == pytest.approx(best_scores[1], abs=1e-5)


def test_a_run_that_is_cut_ends_as_one_that_is_not(
    swinv2: Run, folder: RunFolder, recipe: Path, data: Path, tmp_path: Path
) -> None:
    constant = ("--schedule.kind", "constant", "--data.path", data)
    assert swinv2("train", recipe, *constant, "--out", tmp_path / "whole").status == 0
    assert swinv2("train", recipe, *constant, "--trainer.epochs", 1, "--out", tmp_path / "cut").status == 0
    assert swinv2("train", "--resume", tmp_path / "cut", "--trainer.epochs", 2).status == 0
    whole, cut = (
        torch.load(RunFolder(tmp_path / name).last, weights_only=True)["state_dict"] for name in ("whole", "cut")
    )
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_detector_starts_from_another(
    swinv2: Run, folder: RunFolder, recipe: Path, data: Path, tmp_path: Path
) -> None:
    """Every tensor that fits is kept: with a learning rate of next to nothing, it is what it was."""
    out = tmp_path / "tuned"
    still = ("--optimizer.base_lr", 1e-12, "--schedule.warmup_lr", 0, "--schedule.min_lr", 0, "--trainer.epochs", 1)
    status, told, err = swinv2("train", recipe, "--data.path", data, "--weights", folder.best, "--out", out, *still)
    assert status == 0, err
    assert "starting from" in told
    before, after = load_file(folder.best), load_file(out / "best.safetensors")
    assert before.keys() == after.keys()
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-9


def test_jitter_fills_batches_up_to_its_size_and_tells_where_images_end(
    swinv2: Run, recipe: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 40 x 30 fit into 64 x 48 pixels; those that are measured have 32 x 43."""
    batches: list[Any] = []

    def padded(*arguments: Any) -> Any:
        batches.append(pad_images(*arguments))
        return batches[-1]

    monkeypatch.setattr("swinv2.model.detect.detector.pad_images", padded)
    jitter = "{resize: jitter, jitter_size: [64, 64], jitter_scale: [0.2, 0.9]}"
    arguments = ("train", recipe, "--data.path", data, "--trainer.epochs", 1, "--detect.augment", jitter)
    status, _, err = swinv2(*arguments, "--out", tmp_path / "run")
    assert (status, err) == (0, "")
    trained = [batch for batch in batches if tuple(batch.tensors.shape[-2:]) == (64, 64)]
    assert 1 <= len(trained) < len(batches)
    sizes = {size for batch in trained for size in batch.image_sizes}
    assert len(sizes) > 1
    assert all(10 <= height <= 44 and 13 <= width <= 58 for height, width in sizes)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_backbone_alone_is_compiled(
    swinv2: Run, recipe: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", seen(compiled, torch.nn.Module.compile))
    arguments = ("train", recipe, "--data.path", data, "--trainer.epochs", 1)
    assert swinv2(*arguments, "--out", tmp_path / "plain").status == 0
    assert compiled == []
    assert swinv2(*arguments, "--out", tmp_path / "compiled", "--trainer.compile", "true").status == 0
    assert [type(module).__name__ for module in compiled] == ["SwinBackbone"]
    plain, fast = (load_file(tmp_path / name / "best.safetensors") for name in ("plain", "compiled"))
    assert plain.keys() == fast.keys()


def seen(found: list[Any], compiles: Callable[..., None]) -> Callable[..., None]:
    """Note what is compiled, and compile it."""

    def compile(self: torch.nn.Module, *arguments: Any, **settings: Any) -> None:
        found.append(self)
        compiles(self, *arguments, **settings)

    return compile


def test_the_file_alone_rebuilds_the_detector(folder: RunFolder) -> None:
    model: Any = load_model(folder.best, "detector")
    assert (model.info.classes, model.settings.num_classes, model.settings.pyramid_channels) == (("car", "owl"), 2, 8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--detect.detector", "mask_rcn"), "mask_rcn"),
        (("--augment.hflip", "0.1"), "detect.augment"),
        (("--detect.heads", "{masks: false, interleaved: true}"), "set masks=True"),
        (("--detect.augment.hflp", "1"), "detect.augment.hflip"),
    ],
)
def test_bad_options_are_one_sentence(
    swinv2: Run, recipe: Path, data: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    status, out, err = swinv2("train", recipe, "--data.path", data, "--out", tmp_path / "run", *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not (tmp_path / "run").exists()


def test_other_classes_are_refused(swinv2: Run, folder: RunFolder, coco_file: Callable[..., Path]) -> None:
    other = coco_file("other.json", categories={3: "car", 7: "bat"}, annotations=[
        {"image_id": 1, "category_id": 3, "bbox": [2, 2, 24, 20], "segmentation": TRIANGLE}
    ])  # fmt: skip
    status, _, err = swinv2("evaluate", "--weights", folder.best, "--data.path", other, "--split", "all")
    assert status == 2
    assert "bat" in err

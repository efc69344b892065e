"""Segmentation by the command line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from swinv2.cli import main
from swinv2.train.folder import RunFolder

RECIPE = """
task: segment
model:
  image_size: [12, 16]
  window_size: 2
  overrides: {embed_dim: 8, depths: [1, 1], num_heads: [1, 2], patch_size: [2, 2]}
data: {workers: 0}
segment:
  heads: {channels: 8, auxiliary_map: 1, auxiliary_channels: 4}
  layout: {resize: 24}
  augment: {brightness: 0, hue: 0}
optimizer: {base_lr: 4.0}
schedule: {warmup_epochs: 0}
trainer: {epochs: 2, batch_size: 4, accelerator: cpu}
"""


class Trained(NamedTuple):
    data: Path
    folder: RunFolder

    @property
    def weights(self) -> Path:
        return self.folder.best

    @property
    def best(self) -> Any:
        return max(self.folder.rows, key=lambda row: row["val_miou"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, draw_scenes: Callable[..., Path]) -> Trained:
    """A run that nothing changes."""
    root = tmp_path_factory.mktemp("segment")
    data = draw_scenes(root / "scenes")
    (root / "tiny.yaml").write_text(RECIPE)
    assert main(["train", str(root / "tiny.yaml"), "--data.path", str(data), "--out", str(root / "run")]) == 0
    return Trained(data, RunFolder(root / "run"))


Run = Callable[..., Any]


def evaluated(swinv2: Run, trained: Trained, *arguments: object) -> Any:
    status, out, err = swinv2(
        "evaluate", "--weights", trained.weights, "--data.path", trained.data, "--data.workers", 0, *arguments,
        "--format", "json",
    )  # fmt: skip
    assert status == 0, err
    return json.loads(out)


def test_evaluate_repeats_the_validation_of_training(swinv2: Run, trained: Trained) -> None:
    """At its size too, which the weights tell."""
    results = evaluated(swinv2, trained)
    figures = {f"val_{name}": results[name] for name in ("loss", "miou", "macc", "aacc")}
    assert figures == pytest.approx({name: trained.best[name] for name in figures}, rel=1e-4)
    assert (results["images"], results["skipped"], results["resize"]) == (3, 0, 24)
    assert list(results["classes"]) == ["sky", "road", "tree"]
    ious = [row["iou"] for row in results["classes"].values()]
    assert sum(ious) / 3 == pytest.approx(results["miou"])


def test_images_are_looked_at_in_other_ways(swinv2: Run, trained: Trained) -> None:
    plain = evaluated(swinv2, trained)["loss"]
    assert evaluated(swinv2, trained, "--test.window", "[100,100]")["loss"] == pytest.approx(plain, rel=1e-5)
    views = (
        ("--test.window", "[8,8]", "--test.stride", "[4,4]"),
        ("--test.scales", "[0.5,1]"),
        ("--test.flip", "true"),
        ("--window-size", 4),
        ("--image-size", 16),
    )
    found = [evaluated(swinv2, trained, *view) for view in views]
    assert [each["loss"] for each in found if abs(each["loss"] - plain) < 1e-6] == []
    assert (found[3]["window_size"], found[4]["resize"]) == ([[4, 4], [4, 4]], 16)
    assert evaluated(swinv2, trained, "--data.layout.resize", 16)["loss"] == pytest.approx(found[4]["loss"])


def test_evaluate_shows_classes_and_draws(swinv2: Run, trained: Trained, tmp_path: Path) -> None:
    (trained.data / "images" / "val" / "broken.png").write_bytes(b"")
    Image.new("L", (4, 4)).save(trained.data / "labels" / "val" / "broken.png")
    common = ("evaluate", "--weights", trained.weights, "--data.path", trained.data, "--data.workers", 0)
    try:
        status, out, err = swinv2(*common, "--pictures", tmp_path / "pictures")
        strict = swinv2(*common, "--strict")
    finally:
        for folder in ("images", "labels"):
            (trained.data / folder / "val" / "broken.png").unlink()
    assert status == 0
    assert f"{trained.best['val_miou']:.2%}" in out
    assert "accuracy %" in out
    assert "skipped" in err
    assert "broken.png" in err
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["0.png", "1.png", "2.png"]
    assert (strict.status, strict.out) == (2, "")
    assert "broken.png" in strict.err


def test_predict_writes_label_maps_pictures_and_shares(swinv2: Run, trained: Trained, tmp_path: Path) -> None:
    images, maps, pictures = trained.data / "images" / "val", tmp_path / "maps", tmp_path / "pictures"
    common = ("predict", images, "--weights", trained.weights, "--maps", maps, "--pictures", pictures)
    status, out, err = swinv2(*common, "--format", "csv")
    assert status == 0
    assert f"3 images, 0 files skipped, maps in {maps}, pictures in {pictures}" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    for number in range(3):
        with Image.open(maps / f"{number}.png") as file, Image.open(images / f"{number}.png") as image:
            labels = np.asarray(file)
            assert file.mode == "P"
            assert file.size == image.size
        with Image.open(pictures / f"{number}.png") as picture:
            assert picture.width > 2 * image.width
        found = {row["class"]: float(row["share"]) for row in rows if row["file"] == str(images / f"{number}.png")}
        shares = np.bincount(labels.ravel(), minlength=3) / labels.size
        assert found == {name: share for name, share in zip(("sky", "road", "tree"), shares, strict=True) if share}
    assert "exists" in swinv2(*common).err
    again = swinv2(*common, "--overwrite", "--reduce-zero-label", "--format", "json")
    assert [entry["file"] for entry in json.loads(again.out)] == [str(images / f"{number}.png") for number in range(3)]
    with Image.open(maps / "2.png") as file:
        assert np.array_equal(np.asarray(file), labels + 1)


def test_label_maps_that_were_predicted_measure_as_the_model(swinv2: Run, trained: Trained, tmp_path: Path) -> None:
    """The pixels of the files, counted plainly, give the figures of evaluate."""
    swinv2("predict", trained.data / "images" / "val", "--weights", trained.weights, "--maps", tmp_path / "maps")
    right = total = 0
    for number in range(3):
        truth, seen = (
            np.asarray(Image.open(folder / f"{number}.png"))
            for folder in (trained.data / "labels" / "val", tmp_path / "maps")
        )
        right += int(((truth == seen) & (truth != 255)).sum())
        total += int((truth != 255).sum())
    assert right / total == pytest.approx(trained.best["val_aacc"], abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--image-size", "24x32"), "--image-size 24x32 would change the aspect of images: give their shorter side"),
        (("--classes", "names.txt"), "holds a segmenter, which tells its own classes"),
        (("--test.stride", "[4,4]"), "moves no window"),
        (("--test.scales", "[]"), "are no sizes"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(
    swinv2: Run, trained: Trained, arguments: tuple[str, ...], words: str
) -> None:
    status, out, err = swinv2("predict", trained.data / "images", "--weights", trained.weights, *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_two_kinds_of_files_need_two_folders(swinv2: Run, trained: Trained, tmp_path: Path) -> None:
    both = ("--maps", tmp_path / "x", "--pictures", tmp_path / "x")
    status, _, err = swinv2("predict", trained.data / "images", "--weights", trained.weights, *both)
    assert status == 2
    assert "choose two" in err


def test_other_classes_are_not_measured(swinv2: Run, trained: Trained, scenes: Callable[..., Path]) -> None:
    other = scenes(classes=("sky", "road", "car"))
    status, _, err = swinv2("evaluate", "--weights", trained.weights, "--data.path", other)
    assert status == 2
    assert f"the classes of {trained.weights} and of {other} differ in car, tree." in err


def test_a_value_of_no_class_stops_with_its_file(swinv2: Run, scenes: Callable[..., Path], tmp_path: Path) -> None:
    data = scenes()
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    Image.fromarray(np.full((16, 24), 9, np.uint8)).save(data / "labels" / "val" / "0.png")
    status, _, err = swinv2("train", tmp_path / "tiny.yaml", "--data.path", data, "--out", tmp_path / "run")
    assert status == 2
    assert f"{data / 'labels' / 'val' / '0.png'} has the value 9, but the 3 classes have the values 0 to 2" in err
    Image.new("L", (3, 3)).save(data / "labels" / "train" / "1.png")
    status, _, err = swinv2("train", tmp_path / "tiny.yaml", "--data.path", data, "--out", tmp_path / "run2")
    assert status == 2
    assert "1.png is 3x3 pixels, but its image" in err

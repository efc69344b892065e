"""Runs of semantic segmentation: what they start from, leave, and go on to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from swinv2.checkpoint import save
from swinv2.data.options import DataOptions
from swinv2.data.segmentation_options import LabelMapLayout, SegmentationAugmentOptions
from swinv2.model import SimMIM, create_model
from swinv2.model.detect.native import SwinDetector
from swinv2.model.upernet import Segmenter
from swinv2.preprocessing import Preprocessing
from swinv2.tasks.models import load_model
from swinv2.tasks.segment.task import SegmentationTask
from swinv2.train.engine_options import TrainerOptions
from swinv2.train.options import ModelOptions, OptimizerOptions, Recipe, ScheduleOptions, SegmentOptions
from swinv2.train.run import train
from swinv2.train.segment import initial, several_gpus

SMALL: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "patch_size": [2, 2]}
HEADS = {"channels": 8, "auxiliary_map": 1, "auxiliary_channels": 4}
CLASSES = ("sky", "road", "tree")
INPUT = Preprocessing(size=(12, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), interpolation="bilinear")


@pytest.fixture
def recipe(scenes: Callable[..., Path]) -> Recipe:
    return Recipe(
        task="segment",
        model=ModelOptions(image_size=(12, 16), window_size=2, overrides=SMALL),
        data=DataOptions(path=str(scenes()), workers=0),
        segment=SegmentOptions(heads=HEADS, augment=SegmentationAugmentOptions(brightness=0, hue=0)),
        optimizer=OptimizerOptions(base_lr=1.0),
        schedule=ScheduleOptions(warmup_epochs=0),
        trainer=TrainerOptions(epochs=2, batch_size=4, accelerator="cpu", ema_decay=0.5),
    )


def on(recipe: Recipe, weights: Path, **model: Any) -> Recipe:
    """The recipe from weights, which tell all that it leaves out."""
    return replace(recipe, model=ModelOptions(weights=str(weights), **model))


def quiet(line: str) -> None:
    """Takes the log's lines."""


def test_a_run_leaves_its_figures_and_a_picture(recipe: Recipe, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = train(recipe, tmp_path / "run", say=lines.append)
    assert lines[0] == "3 classes (sky, road, tree), 8 + 3 images, on cpu"
    best = max(folder.rows, key=lambda row: row["val_miou"])
    assert 0 < best["val_miou"] <= best["val_aacc"] <= 1
    assert f"mIoU {folder.rows[1]['val_miou']:.2%}" in lines[2]
    model = load_model(folder.best, "segmenter")
    assert (model.info.classes, model.info.extra["layout.resize"]) == (CLASSES, "null")
    with Image.open(folder.path / "segmentation.png") as picture:
        assert picture.height >= 3 * 16
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 3


def test_it_stops_and_goes_on_to_the_same_weights(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(recipe, tmp_path / "whole", say=quiet)
    original, calls = SegmentationTask.training_step, []

    def interrupted(self: SegmentationTask, *arguments: Any) -> Any:
        calls.append(0)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(SegmentationTask, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        train(recipe, tmp_path / "run", say=quiet)
    resumed = train(recipe, tmp_path / "run", resume=True, say=quiet)
    ours, theirs = (torch.load(folder.last, weights_only=True) for folder in (resumed, whole))
    assert all(torch.equal(ours["state_dict"][name], tensor) for name, tensor in theirs["state_dict"].items())
    assert [row["val_miou"] for row in resumed.rows] == [row["val_miou"] for row in whole.rows]
    names = Path(recipe.data.path) / "classes.txt"
    names.write_text(names.read_text().replace("tree", "bush"))
    with pytest.raises(ValueError, match="classes of the checkpoint and of the data differ in bush, tree"):
        train(replace(recipe, trainer=replace(recipe.trainer, epochs=3)), tmp_path / "run", resume=True, say=quiet)


@pytest.mark.parametrize("kind", ["classifier", "simmim", "detector"])
def test_the_backbone_of_any_model_is_kept(
    recipe: Recipe, tmp_path: Path, randomise: Callable[..., nn.Module], kind: str
) -> None:
    model = create_model("swinv2_nano", window_size=2, image_size=(12, 16), num_classes=2, **SMALL)
    if kind != "classifier":
        model = {"simmim": SimMIM, "detector": SwinDetector}[kind](model.config)
    save(
        randomise(model),
        tmp_path / "w.safetensors",
        classes=() if kind == "simmim" else ("a", "b"),
        preprocessing=INPUT,
    )
    start = initial(on(recipe, tmp_path / "w.safetensors", overrides={"drop_path_rate": 0.1}), CLASSES)
    assert isinstance(start.model, Segmenter)
    kept, names = model.body.state_dict(), dict(start.model.backbone.named_parameters())
    same = {name for name in names if name in kept and torch.equal(names[name], kept[name])}
    assert {name for name in names if not name.startswith("norms.")} <= same
    assert start.recipe.input == INPUT
    assert start.model.config.drop_path_rate == 0.1
    assert (start.model.config.num_classes, start.model.info.classes) == (3, CLASSES)
    norms = "" if kind == "detector" else "norms of the maps, "
    assert f"new: {norms}head, auxiliary_head; window 2" in start.remarks[0]


@pytest.fixture
def segmenter(tmp_path: Path, randomise: Callable[..., nn.Module]) -> tuple[Segmenter, Path]:
    config = create_model("swinv2_nano", window_size=2, image_size=(12, 16), num_classes=3, **SMALL).config
    model = randomise(Segmenter(config, **HEADS))
    save(model, tmp_path / "s.safetensors", classes=CLASSES, preprocessing=INPUT)
    return model, tmp_path / "s.safetensors"


def test_a_segmenter_keeps_all_for_the_same_classes_in_any_order(recipe: Recipe, segmenter: Any) -> None:
    model, path = segmenter
    start = initial(on(recipe, path), ("tree", "sky", "road"))
    assert "heads kept; window 2" in start.remarks[0]
    x = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(start.model.eval()(x), model.eval()(x)[:, [2, 0, 1]])


def test_other_classes_have_fresh_outputs_alone(recipe: Recipe, segmenter: Any) -> None:
    model, path = segmenter
    start = initial(on(recipe, path, window_size=4), ("sky", "road", "car"))
    assert "new: head.classifier, auxiliary_head.classifier; window 2 -> 4" in start.remarks[0]
    ours, theirs = start.model.state_dict(), model.state_dict()
    changed = {name for name in theirs if not torch.equal(ours[name], theirs[name])}
    assert changed == {
        f"{head}.classifier.{name}" for head in ("head", "auxiliary_head") for name in ("weight", "bias")
    }


def test_what_weights_cannot_give_is_refused(recipe: Recipe, segmenter: Any) -> None:
    _, path = segmenter
    gray = replace(recipe.preprocessing, mean=(0.5,), std=(0.5,))
    with pytest.raises(ValueError, match=r"takes 3 channels, but preprocessing\.mean has 1 numbers"):
        initial(replace(on(recipe, path), preprocessing=gray), CLASSES)
    with pytest.raises(ValueError, match=r"'chanels' is no field of UperNetConfig \(the nearest is 'channels'\)"):
        initial(replace(recipe, segment=SegmentOptions(heads={"chanels": 8})), CLASSES)


def test_options_of_other_tasks_are_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match=r"task segment has segment\.augment in the place of augment"):
        replace(recipe, augment=replace(recipe.augment, hflip=0.0))
    with pytest.raises(ValueError, match="the segment options are of task segment"):
        Recipe(segment=SegmentOptions(layout=LabelMapLayout(resize=100)))


def test_statistics_are_shared_by_several_gpus_alone() -> None:
    assert several_gpus(TrainerOptions(accelerator="gpu", devices=2))
    assert not several_gpus(TrainerOptions(accelerator="gpu", devices=1))
    assert not several_gpus(TrainerOptions(accelerator="cpu", devices=2))

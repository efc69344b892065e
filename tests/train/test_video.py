"""Runs of video classification: what they start from, leave, and go on to."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swinv2.checkpoint import load, save
from swinv2.data.clips import ClipOptions
from swinv2.data.motion import DIRECTIONS, Motion, make_motion
from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.data.video_transforms import clip_views
from swinv2.model import SwinTransformer, create_model
from swinv2.preprocessing import Preprocessing
from swinv2.tasks.video import VideoTask
from swinv2.train.classify import initial
from swinv2.train.engine_options import TrainerOptions
from swinv2.train.options import ModelOptions, OptimizerOptions, Recipe, ScheduleOptions
from swinv2.train.run import train

pytest.importorskip("av")
SMALL: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "patch_size": [2, 4, 4]}
CLASSES = tuple(sorted(DIRECTIONS))
INPUT = Preprocessing(size=(16, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 + 8 videos, which nothing changes."""
    root = tmp_path_factory.mktemp("motion") / "motion"
    list(make_motion(root, Motion(videos=2, val_videos=1, size=16, frames=6)))
    return root


@pytest.fixture
def recipe(motion: Path) -> Recipe:
    """With mixing; of five frames, the last patch is half empty."""
    return Recipe(
        task="video",
        model=ModelOptions(image_size=16, window_size=2, overrides=SMALL),
        data=DataOptions(path=str(motion), workers=0),
        video=ClipOptions(frames=5, stride=1),
        augment=AugmentOptions(crop="pad", pad=1, hflip=0, rand_augment=None, erase=0.5),
        optimizer=OptimizerOptions(base_lr=1.0),
        schedule=ScheduleOptions(warmup_epochs=0),
        trainer=TrainerOptions(epochs=2, batch_size=8, accelerator="cpu", ema_decay=0.5),
    )


def on(recipe: Recipe, weights: Path, **model: Any) -> Recipe:
    """The recipe from weights, which tell all that it leaves out."""
    return replace(recipe, model=ModelOptions(weights=str(weights), **model))


def quiet(line: str) -> None:
    """Takes the log's lines."""


def logits(model: SwinTransformer, clips: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(clips)


def test_a_run_leaves_weights_that_tell_their_clips_and_repeat_its_figures(recipe: Recipe, tmp_path: Path) -> None:
    data = shutil.copytree(recipe.data.path, tmp_path / "motion")
    broken = data / "train" / "east" / "0000.mp4"
    broken.write_bytes(broken.read_bytes()[:300])
    recipe = replace(recipe, data=replace(recipe.data, path=str(data)), video=ClipOptions(frames=5, views=(2, 3)))
    lines: list[str] = []
    folder = train(recipe, tmp_path / "run", say=lines.append)
    assert lines[0] == "8 classes (east, north, northeast, northwest, south, ...), 16 + 8 videos, on cpu"
    assert " clips/s" in lines[-1]
    assert {path.name for path in folder.path.iterdir()} >= {"best.safetensors", "confusion.png", "curves.png"}
    assert str(broken) in folder.skipped.read_text()
    model = load(folder.best)
    assert model.info.classes == CLASSES
    assert ClipOptions.from_extra(model.info.extra) == recipe.video
    right, losses = 0, []
    for label, name in enumerate(CLASSES):
        p = logits(model, clip_views(recipe.video, recipe.completed().input)(data / "val" / name / "0000.mp4"))
        p = p.softmax(1).mean(0)
        right += int(p.argmax() == label)
        losses.append(-p[label].log().item())
    best = max(folder.rows, key=lambda row: (row["val_top1"], -row["val_loss"]))
    assert best["val_top1"] == pytest.approx(right / 8)
    assert best["val_loss"] == pytest.approx(sum(losses) / 8, rel=1e-4)


def test_it_stops_and_goes_on_to_the_same_weights(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(recipe, tmp_path / "whole", say=quiet)
    original, calls = VideoTask.training_step, []

    def interrupted(self: VideoTask, *arguments: Any) -> Any:
        calls.append(0)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(VideoTask, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        train(recipe, tmp_path / "run", say=quiet)
    resumed = train(recipe, tmp_path / "run", resume=True, say=quiet)
    ours, theirs = (torch.load(folder.last, weights_only=True) for folder in (resumed, whole))
    assert all(torch.equal(ours["state_dict"][name], tensor) for name, tensor in theirs["state_dict"].items())
    assert [row["val_loss"] for row in resumed.rows] == [row["val_loss"] for row in whole.rows]
    assert ClipOptions.from_extra(load(resumed.best).info.extra) == recipe.video


@pytest.fixture
def write(tmp_path: Path, randomise: Callable[..., nn.Module]) -> Callable[..., Path]:
    """Write a small model of random weights."""

    def make(name: str, patch: list[int], classes: tuple[str, ...] = CLASSES, **extra: str) -> Path:
        model = create_model(
            name, window_size=4, image_size=(8, 16, 16)[-len(patch) :], num_classes=len(classes),
            **{**SMALL, "patch_size": patch},
        )  # fmt: skip
        nn.init.normal_(randomise(model).head.weight, generator=torch.Generator().manual_seed(0))
        path = tmp_path / f"{name}.safetensors"
        save(model, path, classes=classes, preprocessing=INPUT, extra=extra)
        return path

    return make


@pytest.mark.parametrize(("name", "table"), [("swinv2_nano", False), ("swin_tiny", True)])
def test_weights_of_images_see_still_clips_as_images(recipe: Recipe, write: Any, name: str, table: bool) -> None:
    path = write(name, [4, 4])
    start = initial(on(recipe, path), CLASSES)
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    still = image[:, :, None].expand(-1, -1, 6, -1, -1)
    torch.testing.assert_close(logits(start.model, still), logits(load(path), image), rtol=1e-4, atol=1e-5)
    config = start.model.config
    assert (config.patch_size, config.window_size[0], config.merge_size) == ((2, 4, 4), (8, 4, 4), (1, 2, 2))
    assert start.recipe.input == INPUT
    assert start.remarks[0].endswith(
        "head kept; window 4 -> 8x4x4; images -> clips, patch 2x4x4"
        if table
        else "head kept; window 4 -> 8x4x4 (trained at 8x4x4,8x2x2); images -> clips, patch 2x4x4"
    )


def test_patch_and_window_of_clips_can_be_chosen(recipe: Recipe, write: Any) -> None:
    chosen = {"window_size": [[4, 2, 2], [4, 4, 4]], "overrides": {"patch_size": [1, 4, 4], "drop_path_rate": 0.1}}
    start = initial(on(recipe, write("swinv2_nano", [4, 4]), frozen_stages=1, **chosen), ("cat", "dog"))
    config = start.model.config
    assert (config.patch_size, config.window_size, config.drop_path_rate) == ((1, 4, 4), ((4, 2, 2), (4, 4, 4)), 0.1)
    assert config.trained_window_size == ((4, 4, 4), (4, 2, 2))
    assert "new head for 2 classes" in start.remarks[0]
    frozen = {name for name, parameter in start.model.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"patch_embed", "stages"}


@pytest.mark.parametrize("name", ["swinv2_video_nano", "swin_video_tiny"])
def test_weights_of_videos_go_on_at_another_window(recipe: Recipe, write: Any, name: str) -> None:
    path = write(name, [2, 4, 4], ("b", "a"), **ClipOptions(frames=8, stride=4).to_extra())
    start = initial(on(recipe, path, window_size=[[2, 2, 2], [2, 4, 4]]), ("a", "b"))
    clips = torch.randn(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(1))
    want = logits(load(path, window_size=((2, 2, 2), (2, 4, 4))), clips)[:, [1, 0]]
    torch.testing.assert_close(logits(start.model, clips), want, rtol=0, atol=0)
    assert "head kept, its classes in the order of the data; window 4 -> 2,2x4x4" in start.remarks[0]
    assert start.remarks[0].endswith("clips of 8 frames, 4 apart -> 5 frames, 1 apart")


def test_a_run_from_images_goes_on_without_them(recipe: Recipe, write: Any, tmp_path: Path) -> None:
    path = write("swinv2_nano", [4, 4])
    recipe = on(replace(recipe, optimizer=OptimizerOptions(base_lr=1e-3, layer_decay=0.5)), path, frozen_stages=1)
    train(replace(recipe, trainer=replace(recipe.trainer, epochs=1)), tmp_path / "run", say=quiet)
    path.unlink()
    folder = train(recipe, tmp_path / "run", resume=True, say=quiet)
    assert len(folder.rows) == 2
    model = load(folder.best)
    assert torch.equal(model.patch_embed.projection.weight[:, :, 0], model.patch_embed.projection.weight[:, :, 1])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            {"name": "swinv2_tiny"},
            "swinv2_tiny is a model of images, but task video takes videos: choose one of videos",
        ),
        ({"name": "swinv2_video_tiny", "weights": "swinv2_nano"}, "model.name swinv2_video_tiny has embed_dim 96, but"),
        (
            {"weights": "swinv2_nano", "overrides": {"patch_size": [4, 4]}},
            r"patch_size \[4, 4\] is a patch of images: give three numbers, frames first",
        ),
        ({"weights": "swinv2_nano", "window_size": [[4, 4]]}, "must have 3 numbers, one per axis"),
    ],
)
def test_what_makes_no_model_of_clips_is_refused(recipe: Recipe, write: Any, model: dict, words: str) -> None:
    weights = {"weights": str(write(model["weights"], [4, 4]))} if "weights" in model else {"image_size": 16}
    with pytest.raises(ValueError, match=words) as caught:
        initial(replace(recipe, model=ModelOptions(**{**model, **weights})), CLASSES)
    assert "\n" not in str(caught.value)


def test_weights_of_videos_are_none_for_images(recipe: Recipe, write: Any) -> None:
    images = replace(on(recipe, write("swinv2_video_nano", [2, 4, 4])), task="classify", video=ClipOptions())
    with pytest.raises(ValueError, match="is a model of videos, but task classify takes images: choose one of images"):
        initial(images, CLASSES)


def test_a_recipe_without_a_name_has_the_smallest_model_of_videos() -> None:
    whole = Recipe(task="video").completed()
    assert (whole.model.name, whole.model.size) == ("swinv2_video_nano", (256, 256))
    assert whole.input_size == (16, 256, 256)


def test_options_of_clips_are_of_videos() -> None:
    with pytest.raises(ValueError, match="the video options are of task video"):
        Recipe(video=ClipOptions(frames=8))

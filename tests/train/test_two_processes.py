"""Detection, segmentation and video in two gloo processes against one that accumulates two batches a step.

Their losses are means over a process's own batch, as the heads see it, so one process takes the two batches apart: it
then steps on the same images. What a model would draw at random is off, or so many are drawn that all are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copy
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from swinv2.data.clips import ClipOptions
from swinv2.data.loading import make_loader
from swinv2.data.motion import Motion, make_motion
from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.tasks.models import load_model
from swinv2.tasks.segment.task import SegmentationTask
from swinv2.train.consolidate import consolidate
from swinv2.train.engine_options import TrainerOptions
from swinv2.train.folder import RunFolder
from swinv2.train.job import job_of
from swinv2.train.options import ModelOptions, OptimizerOptions, Recipe, ScheduleOptions, SegmentOptions
from swinv2.train.recipe import dump_recipe
from swinv2.train.run import train

SMALL: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "patch_size": [2, 2]}
COMMON: dict[str, Any] = {
    # So large an epsilon that rounding of gradients near zero does not become a whole step.
    "optimizer": OptimizerOptions(base_lr=0.5, eps=1e-3),
    "schedule": ScheduleOptions(kind="constant", warmup_epochs=0),
}
SCRIPT = Path(__file__).with_name("reporting.py")


class Two(NamedTuple):
    folder: RunFolder
    reports: list[dict[str, Any]]


def quiet(line: str) -> None:
    """Takes the log's lines."""


def trainer(**options: Any) -> TrainerOptions:
    return TrainerOptions(**{"epochs": 1, "accelerator": "cpu", **options})


def in_two(recipe: Recipe, out: Path, strategy: str) -> Two:
    file = out.with_suffix(".yaml")
    file.write_text(dump_recipe(replace(recipe, trainer=replace(recipe.trainer, strategy=strategy))))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [sys.executable, *torchrun, str(SCRIPT), str(file), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    return Two(RunFolder(out), [torch.load(f"{out}.{rank}") for rank in (0, 1)])


def in_one(recipe: Recipe, out: Path) -> RunFolder:
    return train(replace(recipe, trainer=replace(recipe.trainer, accumulate=2)), out, say=quiet)


def last_weights(folder: RunFolder) -> dict[str, Tensor]:
    path = folder.path / "whole.safetensors"
    consolidate(folder.last, path)
    return load_file(path)


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Weights of steps of up to 1e-3 to 1e-6; what is left of them is rounding."""
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name].float() - theirs[name].float()).abs().max()) for name in ours) < 1e-6


def assert_each_image_counted_once(two: Two, images: int) -> None:
    first, second = two.reports
    assert sorted(first["rows"] + second["rows"]) == list(range(images))
    assert first["images"] == second["images"] == images
    assert first["figures"] == pytest.approx(second["figures"], nan_ok=True)


def assert_same_between_processes(two: Two) -> None:
    first, second = (report["weights"] for report in two.reports)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero1", "fsdp"])
def test_a_detector_learns_as_in_one_process(detection: Callable[..., Recipe], tmp_path: Path, strategy: str) -> None:
    """One image a process and step: one process alone has no objects to learn from, or an image that is broken."""
    recipe = detection(trainer={"batch_size": 2})
    (Path(recipe.data.path) / "images" / "train-0.png").write_bytes(b"")
    two, one = in_two(recipe, tmp_path / "two", strategy), in_one(recipe, tmp_path / "one")
    assert_same(last_weights(two.folder), last_weights(one))
    assert_each_image_counted_once(two, 3)
    if strategy != "fsdp":
        assert_same_between_processes(two)
    ours, theirs = two.folder.rows[0], one.rows[0]
    assert ours["step"] == theirs["step"] == 3
    for name in ("train_loss", "val_box_ap", "val_mask_ap"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
    assert "train-0.png" in two.folder.skipped.read_text()


@pytest.mark.slow
def test_a_segmenter_learns_as_in_one_process(scenes: Callable[..., Path], tmp_path: Path) -> None:
    """But for the statistics that BatchNorm keeps: those of the first process serve all."""
    recipe = Recipe(
        task="segment",
        model=ModelOptions(image_size=(12, 16), window_size=2, overrides={**SMALL, "drop_path_rate": 0.0}),
        data=DataOptions(path=str(scenes()), workers=0),
        segment=SegmentOptions(heads={"channels": 8, "auxiliary_map": 1, "auxiliary_channels": 4, "dropout": 0.0}),
        trainer=trainer(batch_size=4),
        **COMMON,
    )
    two, one = in_two(recipe, tmp_path / "two", "ddp"), in_one(recipe, tmp_path / "one")
    learnt = dict(load_model(one.best, "segmenter").named_parameters())
    ours, theirs = (
        {name: tensor for name, tensor in last_weights(folder).items() if name in learnt}
        for folder in (two.folder, one)
    )
    assert_same(ours, theirs)
    assert_same_between_processes(two)
    assert_each_image_counted_once(two, 3)
    model = load_model(two.folder.best, "segmenter").eval()
    job = job_of("segment")
    _, validation = job.open(recipe)
    task = SegmentationTask(model, validation.classes, optimise=lambda _: None)
    with torch.no_grad():
        for batch in make_loader(job.samples(recipe.completed(), validation, augmented=False), batch_size=2,
                                 shuffle=False):  # fmt: skip
            task.validation_step(batch, 0)
    for name, figure in task.figures().items():
        assert two.folder.rows[0][f"val_{name}"] == pytest.approx(figure, rel=1e-5)


@pytest.mark.slow
def test_a_classifier_of_videos_learns_as_in_one_process(tmp_path: Path) -> None:
    pytest.importorskip("av")
    list(make_motion(tmp_path / "motion", Motion(videos=1, val_videos=1, size=16, frames=6)))
    first = tmp_path / "motion" / "val" / "east" / "0000.mp4"
    copy(first, first.with_name("0001.mp4"))  # nine, which leave one process nothing at the end
    recipe = Recipe(
        task="video",
        model=ModelOptions(
            image_size=16, window_size=2, overrides={**SMALL, "patch_size": [2, 4, 4], "drop_path_rate": 0.0}
        ),
        data=DataOptions(path=str(tmp_path / "motion"), workers=0),
        video=ClipOptions(frames=5, stride=1, views=(1, 3)),
        augment=AugmentOptions(crop="pad", pad=1, hflip=0, rand_augment=None, erase=0.5, mixup=0, cutmix=0),
        trainer=trainer(batch_size=4),
        **COMMON,
    )
    two, one = in_two(recipe, tmp_path / "two", "ddp"), in_one(recipe, tmp_path / "one")
    assert_same(last_weights(two.folder), last_weights(one))
    assert_same_between_processes(two)
    assert_each_image_counted_once(two, 9)
    for name in ("train_loss", "val_loss", "val_top1"):
        assert two.folder.rows[0][name] == pytest.approx(one.rows[0][name], rel=1e-5)

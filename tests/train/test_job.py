"""A task of its own rows, batches, model and figures, through the same run as those of the package."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import lightning as L
import pytest
import torch
from safetensors.torch import load_file

from swinv2.data.loading import make_loader
from swinv2.tasks.base import Task
from swinv2.tasks.models import load_model
from swinv2.train.consolidate import consolidate
from swinv2.train.folder import RunFolder
from swinv2.train.job import JOBS, Job, job_of
from swinv2.train.options import Recipe, TaskName
from swinv2.train.run import train

Tiny = Callable[..., Recipe]


def quiet(line: str) -> None:
    """Takes the log's lines."""


@pytest.fixture
def gray(toy: ModuleType, tiny: Tiny) -> Tiny:
    """The tiny recipe for the task of tests/toy.py."""

    def make(**groups: dict[str, object]) -> Recipe:
        return replace(tiny(**{"optimizer": {"base_lr": 0.3}, **groups}), task="gray")

    return make


def test_every_task_of_a_recipe_has_a_job() -> None:
    assert set(JOBS) == set(TaskName.__args__)
    assert all(isinstance(job_of(task), Job) for task in JOBS)


def test_a_run_of_another_task_leaves_its_own_figures(gray: Tiny, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = train(gray(), tmp_path / "run", say=lines.append)
    with folder.metrics.open() as file:
        header = next(csv.reader(file))
    assert header[:6] == ["epoch", "step", "lr", "train_loss", "val_loss", "val_error"]
    assert [row["val_loss"] for row in folder.rows] == [None] * 3
    best = min(folder.rows, key=lambda row: row["val_error"])
    assert best["val_error"] < folder.rows[0]["val_error"] or best is folder.rows[0]
    assert (folder.path / "best.txt").read_text() == f"epoch {best['epoch']}: {best['val_error']:.4f}"
    assert lines[0] == "32 + 8 images, on cpu"
    assert f"  error {folder.rows[2]['val_error']:.4f}  " in lines[3]
    assert "val loss" not in lines[3]
    assert sorted(folder.read_skipped()) == ["level 13: broken.", "level 20: broken.", "level 27: broken.",
                                             "level 6: broken.", "level 99: left out."]  # fmt: skip


def test_its_best_weights_rebuild_the_model_that_was_validated(gray: Tiny, toy: ModuleType, tmp_path: Path) -> None:
    folder = train(gray(), tmp_path / "run", say=quiet)
    model = load_model(folder.best, "regressor")
    task, source = toy.GrayTask(model, toy.Errors(), optimise=lambda _: None), toy.Grays(8)
    best = min(folder.rows, key=lambda row: row["val_error"])
    loader = make_loader(
        job_of("gray").samples(gray().completed(), source, augmented=False), batch_size=3, shuffle=False
    )
    loader.sampler.set_epoch(best["epoch"] - 1)  # whose noise it saw
    with torch.no_grad():
        for batch in loader:
            task.validation_step(batch, 0)
    assert task.figures()["error"] == pytest.approx(best["val_error"], rel=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_stops_and_goes_on_to_the_same_weights(
    gray: Tiny, toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    recipe = gray(data={"workers": workers})
    whole = train(recipe, tmp_path / "whole", say=quiet)
    original, calls = toy.GrayTask.training_step, []

    def interrupted(self: Task, *arguments: object) -> object:
        calls.append(0)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(toy.GrayTask, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        train(recipe, tmp_path / "run", say=quiet)
    resumed = train(recipe, tmp_path / "run", resume=True, say=quiet)
    ours, theirs = (torch.load(folder.last, weights_only=True) for folder in (resumed, whole))
    for weights in ("state_dict", "current_model_state"):
        assert ours[weights].keys() == theirs[weights].keys()
        assert all(torch.equal(ours[weights][name], tensor) for name, tensor in theirs[weights].items())
    assert [row["val_error"] for row in resumed.rows] == [row["val_error"] for row in whole.rows]
    best, expected = load_file(resumed.best), load_file(whole.best)
    assert all(torch.equal(best[name], expected[name]) for name in expected)


def test_the_last_weights_become_a_file_that_rebuilds_the_model(gray: Tiny, toy: ModuleType, tmp_path: Path) -> None:
    folder = train(gray(trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    consolidate(folder.last, tmp_path / "last.safetensors")
    model = load_model(tmp_path / "last.safetensors")
    assert isinstance(model, toy.Regressor)
    assert model.first.out_features == 4


def test_a_checkpoint_of_another_task_is_refused(gray: Tiny, tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    with pytest.raises(ValueError, match=r"last\.ckpt is of a classifier, but task gray trains a regressor") as caught:
        train(gray(), tmp_path / "run", resume=True, say=quiet)
    assert "\n" not in str(caught.value)
    assert RunFolder(tmp_path / "run").rows[0]["epoch"] == 1


def test_a_slow_backbone_stays_where_it_is_under_a_head_that_moves(gray: Tiny, toy: ModuleType, tmp_path: Path) -> None:
    recipe = gray(
        optimizer={"base_lr": 0.3, "backbone_lr_factor": 1e-9},
        schedule={"warmup_lr": 0.0, "min_lr": 0.0},
        trainer={"ema_decay": None, "epochs": 1},
    )
    L.seed_everything(recipe.seed, verbose=False)
    before = dict(job_of("gray").initial(recipe, toy.Grays(32), None).model.named_parameters())
    after = load_file(train(recipe, tmp_path / "run", say=quiet).best)
    still = {name for name, tensor in before.items() if torch.allclose(tensor, after[name], atol=1e-6, rtol=0)}
    assert still == {name for name in before if name.startswith("backbone.")}

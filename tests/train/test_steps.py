"""Trainings whose length is given in steps, and validations that are not after each epoch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from swinv2.tasks.classify import ClassificationTask
from swinv2.train.folder import RunFolder
from swinv2.train.options import Recipe
from swinv2.train.run import train

Tiny = Callable[..., Recipe]


def quiet(line: str) -> None:
    """Takes the log's lines."""


@pytest.fixture
def by_steps(tiny: Tiny) -> Tiny:
    """Eighteen steps, validated every six, over data of four steps an epoch; the second validation is in mid-epoch."""

    def make(**trainer: object) -> Recipe:
        length = {"epochs": None, "steps": 18, "validate_every": 6}
        return tiny(trainer={**length, **trainer}, schedule={"warmup_epochs": 0.0, "warmup_steps": 2})

    return make


def state(folder: RunFolder) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder.last, weights_only=True)
    moments = checkpoint["optimizer_states"][0]["state"]
    return {
        **{f"average {name}": tensor for name, tensor in checkpoint["state_dict"].items()},
        **{f"raw {name}": tensor for name, tensor in checkpoint["current_model_state"].items()},
        **{f"{name} {index}": tensor for index, entry in moments.items() for name, tensor in entry.items()},
    }


def assert_same_end(resumed: RunFolder, whole: RunFolder) -> None:
    ours, theirs = state(resumed), state(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    columns = ("epoch", "step", "lr", "val_loss", "val_top1")
    assert [[row[c] for c in columns] for row in resumed.rows] == [[row[c] for c in columns] for row in whole.rows]


def test_steps_end_where_they_should_with_a_row_a_validation(by_steps: Tiny, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = train(by_steps(), tmp_path / "run", say=lines.append)
    assert [(row["epoch"], row["step"]) for row in RunFolder(folder.path).rows] == [(1.5, 6), (3, 12), (4.5, 18)]
    assert [line.split("  ")[0] for line in lines[1:]] == ["step 6/18", "step 12/18", "step 18/18"]
    last = torch.load(folder.last, weights_only=True)
    assert last["global_step"] == 18
    assert last["lr_schedulers"][0]["last_epoch"] == 18


def test_steps_see_the_images_that_epochs_do(tiny: Tiny, by_steps: Tiny, tmp_path: Path) -> None:
    """Twelve steps are three epochs of four, whenever they are validated, and leave the same weights."""
    schedule = {"kind": "constant", "warmup_epochs": 0.0}
    epochs = train(tiny(schedule=schedule), tmp_path / "epochs", say=quiet)
    recipe = by_steps(steps=12)
    steps = replace(recipe, schedule=replace(recipe.schedule, kind="constant", warmup_steps=0))
    ours, theirs = state(train(steps, tmp_path / "steps", say=quiet)), state(epochs)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize(
    ("call", "workers", "accumulate"),
    [
        (10, 0, 1),
        *(
            pytest.param(*point, marks=pytest.mark.slow)
            for point in ((3, 0, 1), (6, 0, 1), (7, 2, 1), (17, 0, 1), (9, 0, 2))
        ),
    ],
)
def test_ctrl_c_and_resume_end_where_an_undisturbed_run_does(
    by_steps: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, workers: int, accumulate: int
) -> None:
    """In the first round, at its end, in the second, which goes over the end of an epoch, and between two batches of a
    step.
    """
    recipe = by_steps(accumulate=accumulate, save_every=4)
    recipe = replace(recipe, data=replace(recipe.data, workers=workers))
    whole = train(recipe, tmp_path / "whole", say=quiet)
    original, calls = ClassificationTask.training_step, []

    def interrupted(self: ClassificationTask, *arguments: object) -> object:
        calls.append(0)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(ClassificationTask, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        train(recipe, tmp_path / "run", say=quiet)
    stopped = torch.load(RunFolder(tmp_path / "run").last, weights_only=True)
    assert stopped["global_step"] == -(-call // accumulate)
    assert_same_end(train(recipe, tmp_path / "run", resume=True, say=quiet), whole)


def test_accumulated_batches_make_steps_of_the_same_number(by_steps: Tiny, tmp_path: Path) -> None:
    folder = train(by_steps(accumulate=2), tmp_path / "run", say=quiet)
    assert [row["step"] for row in folder.rows] == [6, 12, 18]


def test_validation_may_come_every_other_epoch(tiny: Tiny, tmp_path: Path) -> None:
    lines: list[str] = []
    every = train(tiny(trainer={"epochs": 4}), tmp_path / "every", say=quiet)
    other = train(tiny(trainer={"epochs": 4, "validate_every": 2}), tmp_path / "other", say=lines.append)
    assert [(row["epoch"], row["step"]) for row in other.rows] == [(2, 8), (4, 16)]
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 2/4", "epoch 4/4"]
    assert [row["val_loss"] for row in other.rows] == [row["val_loss"] for row in every.rows[1::2]]
    ours, theirs = state(other), state(every)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_a_finished_run_goes_on_for_more_steps(by_steps: Tiny, tmp_path: Path) -> None:
    def recipe(steps: int) -> Recipe:
        made = by_steps(steps=steps)
        return replace(made, schedule=replace(made.schedule, kind="constant"))

    whole = train(recipe(18), tmp_path / "whole", say=quiet)
    train(recipe(6), tmp_path / "run", say=quiet)
    assert_same_end(train(recipe(18), tmp_path / "run", resume=True, say=quiet), whole)
    with pytest.raises(ValueError, match=r"trainer\.steps 6 is below the 18 steps of"):
        train(recipe(6), tmp_path / "run", resume=True, say=quiet)


def test_other_rounds_cannot_be_resumed(by_steps: Tiny, tiny: Tiny, tmp_path: Path) -> None:
    folder = train(by_steps(steps=6), tmp_path / "run", say=quiet)
    before = [path.read_bytes() for path in (folder.last, folder.config)]
    for other in (by_steps(validate_every=9), tiny(trainer={"epochs": 9})):
        with pytest.raises(ValueError, match="but the checkpoint was made with one every 6: resume with") as caught:
            train(other, tmp_path / "run", resume=True, say=quiet)
        assert "\n" not in str(caught.value)
    assert [path.read_bytes() for path in (folder.last, folder.config)] == before

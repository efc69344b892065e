import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from swinv2.checkpoint import load
from swinv2.tasks.classify import ClassificationTask
from swinv2.tasks.metrics import ClassificationMetrics
from swinv2.train.folder import RunFolder
from swinv2.train.options import Recipe
from swinv2.train.recipe import load_recipe
from swinv2.train.resume import collect_generators, restore_generators
from swinv2.train.run import train

Tiny = Callable[..., Recipe]
EVERYTHING = {"best.safetensors", "checkpoints/", "config.yaml", "confusion.png", "curves.png", "metrics.csv"}


def quiet(line: str) -> None:
    """Takes the log's lines."""


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def fail() -> None:
    raise RuntimeError("out of memory")


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have something happen in the n-th call of a step of the task, counted from 1."""

    def arrange(step: int, event: Callable[[], None], method: str = "training_step") -> None:
        original, calls = getattr(ClassificationTask, method), []

        def wrapped(self: ClassificationTask, *arguments: object) -> object:
            calls.append(0)
            if len(calls) == step:
                event()
            return original(self, *arguments)

        monkeypatch.setattr(ClassificationTask, method, wrapped)

    return arrange


def state(folder: RunFolder) -> dict[str, torch.Tensor]:
    """The raw weights, the average and Adam's moments in last.ckpt."""
    checkpoint = torch.load(folder.last, weights_only=True)
    moments = checkpoint["optimizer_states"][0]["state"]
    return {
        **{f"average {name}": tensor for name, tensor in checkpoint["state_dict"].items()},
        **{f"raw {name}": tensor for name, tensor in checkpoint["current_model_state"].items()},
        **{f"{name} {index}": tensor for index, entry in moments.items() for name, tensor in entry.items()},
    }


def assert_same_end(resumed: RunFolder, whole: RunFolder) -> None:
    """Equal to the bit in weights and optimiser, and with the same validation of every epoch."""
    ours, theirs = state(resumed), state(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    columns = ("epoch", "step", "lr", "val_loss", "val_top1", "val_top5")
    assert [[row[c] for c in columns] for row in resumed.rows] == [[row[c] for c in columns] for row in whole.rows]


@pytest.mark.parametrize(
    ("step", "validated", "workers", "accumulate"),
    [
        (2, [2], 0, 1),
        pytest.param(2, [2], 2, 1, marks=pytest.mark.slow),
        pytest.param(6, [4], 0, 1, marks=pytest.mark.slow),
        (6, [4], 2, 1),
        (8, [4, 8], 0, 1),
        pytest.param(1, [1], 0, 2, marks=pytest.mark.slow),
        (5, [2], 0, 3),
    ],
)
def test_ctrl_c_and_resume_end_where_an_undisturbed_run_does(
    tiny: Tiny,
    tmp_path: Path,
    at_step: Callable[..., None],
    step: int,
    validated: list[int],
    workers: int,
    accumulate: int,
) -> None:
    """Accumulated batches make one step, at whose end training stops; the last step of an epoch may have fewer."""
    recipe = tiny(data={"workers": workers}, trainer={"accumulate": accumulate, "batch_size": 8 * accumulate})
    whole = train(recipe, tmp_path / "whole", say=quiet)
    at_step(step, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt, match=r"swinv2 train --resume .*run"):
        train(recipe, tmp_path / "run", say=quiet)
    stopped = RunFolder(tmp_path / "run")
    assert set(stopped.contents()) >= EVERYTHING
    assert [row["step"] for row in stopped.rows] == validated
    assert_same_end(train(recipe, tmp_path / "run", resume=True, say=quiet), whole)


@pytest.mark.parametrize(("step", "validated"), [pytest.param(6, [4], marks=pytest.mark.slow), (8, [4, 8])])
def test_sigterm_is_a_ctrl_c_even_if_it_comes_twice(
    tiny: Tiny, tmp_path: Path, at_step: Callable[..., None], step: int, validated: list[int]
) -> None:
    """In the last step of an epoch too, which has its validation first."""
    before = signal.getsignal(signal.SIGTERM)
    whole = train(tiny(), tmp_path / "whole", say=quiet)

    def terminate_twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    at_step(step, terminate_twice)
    with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGTERM; .*swinv2 train --resume .*run"):
        train(tiny(), tmp_path / "run", say=quiet)
    assert signal.getsignal(signal.SIGTERM) == before
    assert [row["step"] for row in RunFolder(tmp_path / "run").rows] == validated
    assert_same_end(train(tiny(), tmp_path / "run", resume=True, say=quiet), whole)


def test_fine_tuning_goes_on_without_the_weights_it_started_from(
    tiny: Tiny, tmp_path: Path, at_step: Callable[..., None]
) -> None:
    """Even by a recipe that leaves to the weights what it can: the checkpoint knows all."""
    start = train(tiny(trainer={"epochs": 1}), tmp_path / "start", say=quiet).best
    weights = {"weights": str(start), "frozen_stages": 1, "window_size": 3, "image_size": None}
    recipe = tiny(model=weights, preprocessing={"mean": None, "std": None})
    whole = train(recipe, tmp_path / "whole", say=quiet)
    at_step(6, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", say=quiet)
    start.unlink()
    assert_same_end(train(recipe, tmp_path / "run", resume=True, say=quiet), whole)
    written, ours = (load(folder.best) for folder in (whole, RunFolder(tmp_path / "run")))
    assert (ours.info, ours.config) == (written.info, written.config)
    assert load_recipe(RunFolder(tmp_path / "run").config) == load_recipe(whole.config)


def test_ctrl_c_in_validation_ends_after_it(tiny: Tiny, tmp_path: Path, at_step: Callable[..., None]) -> None:
    whole = train(tiny(), tmp_path / "whole", say=quiet)
    at_step(1, press_ctrl_c, "validation_step")
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "run", say=quiet)
    assert [row["step"] for row in RunFolder(tmp_path / "run").rows] == [4]
    assert_same_end(train(tiny(), tmp_path / "run", resume=True, say=quiet), whole)


def test_a_second_ctrl_c_stops_at_once_and_can_be_resumed(
    tiny: Tiny, tmp_path: Path, at_step: Callable[..., None]
) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice() -> None:
        press_ctrl_c()
        press_ctrl_c()

    at_step(6, twice)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        train(tiny(), tmp_path / "run", say=quiet)
    assert signal.getsignal(signal.SIGINT) is before
    assert RunFolder(tmp_path / "run").last.exists()
    assert [row["epoch"] for row in train(tiny(), tmp_path / "run", resume=True, say=quiet).rows] == [1, 2, 3]


def test_an_error_in_validation_keeps_the_raw_weights_apart_from_the_average(
    tiny: Tiny, tmp_path: Path, at_step: Callable[..., None]
) -> None:
    """What follows the broken validation must be what would have followed it anyway."""
    whole = train(tiny(), tmp_path / "whole", say=quiet)
    at_step(2, fail, "validation_step")
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tiny(), tmp_path / "run", say=quiet)
    resumed = train(tiny(), tmp_path / "run", resume=True, say=quiet)
    ours, theirs = state(resumed), state(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.rows[1:][0]["val_loss"] == whole.rows[1]["val_loss"]


def test_an_error_leaves_what_was_reached(tiny: Tiny, tmp_path: Path, at_step: Callable[..., None]) -> None:
    at_step(7, fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tiny(), tmp_path / "run", say=quiet)
    folder = RunFolder(tmp_path / "run")
    assert set(folder.contents()) >= EVERYTHING
    assert [row["epoch"] for row in folder.rows] == [1]
    assert [row["epoch"] for row in train(tiny(), tmp_path / "run", resume=True, say=quiet).rows] == [1, 2, 3]


def test_a_finished_run_goes_on_for_more_epochs(tiny: Tiny, tmp_path: Path) -> None:
    constant = {"schedule": {"kind": "constant", "warmup_epochs": 0}}
    whole = train(tiny(**constant), tmp_path / "whole", say=quiet)
    train(tiny(**constant, trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    assert_same_end(train(tiny(**constant), tmp_path / "run", resume=True, say=quiet), whole)


def test_a_finished_run_has_nothing_left_to_do(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(), tmp_path / "run", say=quiet)
    weights, rows = folder.best.read_bytes(), folder.rows
    again = train(tiny(), tmp_path / "run", resume=True, say=quiet)
    assert (again.best.read_bytes(), again.rows) == (weights, rows)


def test_fewer_epochs_than_were_trained_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(trainer={"epochs": 2}), tmp_path / "run", say=quiet)
    with pytest.raises(ValueError, match=r"trainer\.epochs 1 is below the 2 epochs"):
        train(tiny(trainer={"epochs": 1}), tmp_path / "run", resume=True, say=quiet)


def test_the_best_of_before_is_still_to_beat(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train(tiny(trainer={"epochs": 2}), tmp_path / "run", say=quiet)
    weights = folder.best.read_bytes()
    update = ClassificationMetrics.update
    monkeypatch.setattr(ClassificationMetrics, "update", lambda self, logits, labels: update(self, -logits, labels))
    resumed = train(tiny(), tmp_path / "run", resume=True, say=quiet)
    assert resumed.rows[2]["val_top1"] < resumed.rows[1]["val_top1"]
    assert folder.best.read_bytes() == weights


def test_a_checkpoint_of_another_model_is_not_touched(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    before = folder.last.read_bytes()
    recipe = tiny()
    wider = {**recipe.model.overrides, "embed_dim": 16}
    wider = replace(recipe, model=replace(recipe.model, name="swinv2_nano", overrides=wider))
    with pytest.raises(ValueError, match=r"embed_dim 16, but .*last\.ckpt has 8: resume with the config\.yaml"):
        train(wider, tmp_path / "run", resume=True, say=quiet)
    assert folder.last.read_bytes() == before


def test_a_folder_without_checkpoint_cannot_be_resumed(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no last\.ckpt to resume from"):
        train(tiny(), tmp_path / "run", resume=True, say=quiet)


def test_random_generators_are_restored_from_what_torch_load_allows(tmp_path: Path) -> None:
    def draw() -> tuple[float, ...]:
        return random.random(), np.random.normal(), torch.rand(()).item()

    np.random.normal()  # leaves NumPy with a second number in hand
    torch.save(collect_generators(), tmp_path / "states")
    drawn = draw()
    restore_generators(torch.load(tmp_path / "states", weights_only=True))
    assert draw() == drawn


def test_generators_of_devices_that_are_gone_are_passed_over() -> None:
    states = collect_generators()
    states["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * (torch.cuda.device_count() + 1)
    states["cuda"][: torch.cuda.device_count()] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    restore_generators(states)


def test_an_error_after_ctrl_c_is_not_swallowed(tiny: Tiny, tmp_path: Path, at_step: Callable[..., None]) -> None:
    def both() -> None:
        press_ctrl_c()
        fail()

    at_step(6, both)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tiny(), tmp_path / "run", say=quiet)


def test_workers_that_hear_ctrl_c_as_well_are_no_error(
    tiny: Tiny, tmp_path: Path, at_step: Callable[..., None]
) -> None:
    def both() -> None:
        press_ctrl_c()
        raise RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")

    at_step(6, both)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        train(tiny(), tmp_path / "run", say=quiet)


def test_data_of_other_classes_cannot_be_resumed_on(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    before = [path.read_bytes() for path in (folder.last, folder.config)]
    (photos / "cat").rename(photos / "emu")
    with pytest.raises(ValueError, match="differ in cat, emu: resume") as caught:
        train(tiny(), tmp_path / "run", resume=True, say=quiet)
    assert "\n" not in str(caught.value)
    assert [path.read_bytes() for path in (folder.last, folder.config)] == before

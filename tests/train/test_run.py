import csv
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from swinv2.checkpoint import load
from swinv2.data.labelled import labelled_images
from swinv2.data.loading import make_loader
from swinv2.data.sources import open_split
from swinv2.data.transforms import eval_transform
from swinv2.tasks.base import Diverged
from swinv2.tasks.classify import ClassificationTask
from swinv2.tasks.inference import infer
from swinv2.tasks.metrics import ClassificationMetrics
from swinv2.train.classify import CONFUSION
from swinv2.train.folder import RunFolder
from swinv2.train.options import Recipe
from swinv2.train.recipe import load_recipe
from swinv2.train.resume import WholeCheckpoints
from swinv2.train.run import train

Tiny = Callable[..., Recipe]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def quiet(line: str) -> None:
    """Takes the log's lines."""


def same(a: Path, b: Path) -> bool:
    """Whether two weights files are equal to the bit."""
    first, second = load_file(a), load_file(b)
    return all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


def validate(folder: RunFolder) -> dict[str, float]:
    """Metrics of best.safetensors, from that file and the recipe's data alone."""
    model = load(folder.best, dtype="keep")
    source = open_split(load_recipe(folder.config).data, "val")
    loader = make_loader(labelled_images(source, eval_transform(model.info.preprocessing)), batch_size=3, shuffle=False)
    metrics = ClassificationMetrics(len(model.info.classes))
    for batch, logits in infer(model, loader, torch.device("cpu")):
        metrics.update(logits, batch.labels)
    return metrics.scalars()


def test_a_run_leaves_everything(tiny: Tiny, tmp_path: Path) -> None:
    recipe, lines = tiny(), []
    folder = train(recipe, tmp_path / "run", say=lines.append)
    assert folder.contents() == [
        "best.safetensors",
        "checkpoints/",
        "config.yaml",
        "confusion.png",
        "curves.png",
        "metrics.csv",
        "tensorboard/",
    ]
    assert load_recipe(folder.config) == recipe.completed()
    with folder.metrics.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8"), ("3", "12")]
    assert all(float(cell) >= 0 for row in rows for cell in row.values())
    assert float(rows[2]["train_loss"]) < float(rows[0]["train_loss"])
    assert len(lines) == 4
    assert lines[0] == "2 classes (cat, dog), 32 + 8 images, on cpu"
    assert lines[3].startswith("epoch 3/3  train loss ")
    assert load(folder.best).info.classes == ("cat", "dog")
    assert list(folder.tensorboard.glob("events.*"))


@pytest.mark.parametrize("ema_decay", [0.8, None])
def test_best_weights_are_the_ones_that_were_validated(tiny: Tiny, tmp_path: Path, ema_decay: float | None) -> None:
    folder = train(tiny(trainer={"ema_decay": ema_decay}), tmp_path / "run", say=quiet)
    best = max(folder.rows, key=lambda row: (row["val_top1"], -row["val_loss"]))
    again = validate(folder)
    assert again["top1"] == best["val_top1"]
    assert again["loss"] == pytest.approx(best["val_loss"], rel=1e-5)


def test_the_average_of_the_weights_is_what_is_validated(tiny: Tiny, tmp_path: Path) -> None:
    """The first average is the model after one step; a decay of nearly 1 keeps validating that."""
    folder = train(tiny(trainer={"ema_decay": 0.999999}), tmp_path / "run", say=quiet)
    losses = [row["val_loss"] for row in folder.rows]
    assert losses[2] == pytest.approx(losses[0], abs=1e-3)
    assert validate(folder)["loss"] == pytest.approx(min(losses), rel=1e-5)


def test_a_seed_fixes_the_weights_for_any_number_of_workers(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(trainer={"epochs": 1})
    first = train(recipe, tmp_path / "first", say=quiet)
    again = train(replace(recipe, data=replace(recipe.data, workers=2)), tmp_path / "again", say=quiet)
    other = train(replace(recipe, seed=1), tmp_path / "other", say=quiet)
    assert same(first.best, again.best)
    assert not same(first.best, other.best)


def test_accumulated_batches_make_the_same_steps(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(trainer={"epochs": 1}, augment={"mixup": 0.0, "cutmix": 0.0})
    steady = {**recipe.model.overrides, "drop_path_rate": 0.0}
    recipe = replace(recipe, model=replace(recipe.model, overrides=steady))
    whole = train(recipe, tmp_path / "whole", say=quiet)
    parts = train(replace(recipe, trainer=replace(recipe.trainer, accumulate=4)), tmp_path / "parts", say=quiet)
    assert parts.rows[0]["step"] == whole.rows[0]["step"]
    assert parts.rows[0]["val_loss"] == pytest.approx(whole.rows[0]["val_loss"], rel=1e-4)
    a, b = load_file(whole.best), load_file(parts.best)
    assert all(torch.allclose(a[name], b[name], atol=1e-3) for name in a)


def test_checkpointing_changes_no_number(tiny: Tiny, tmp_path: Path) -> None:
    plain, recomputed = (
        train(tiny(trainer={"epochs": 1}, checkpointing={"every": every}), tmp_path / str(every), say=quiet)
        for every in (0, 1)
    )
    assert same(plain.best, recomputed.best)


@pytest.mark.slow
def test_a_compiled_model_leaves_the_weights_of_a_plain_one(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"epochs": 1, "compile": True}), tmp_path / "run", say=quiet)
    assert validate(folder)["loss"] == pytest.approx(folder.rows[0]["val_loss"], rel=1e-3)


def test_half_precision_trains(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"epochs": 1, "precision": "bf16-mixed"}), tmp_path / "run", say=quiet)
    assert all(tensor.dtype == torch.float32 for tensor in load_file(folder.best).values())
    assert validate(folder)["loss"] == pytest.approx(folder.rows[0]["val_loss"], rel=0.05)


def test_training_on_other_channels(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(
        tiny(trainer={"epochs": 1}, preprocessing={"mean": (0.5,), "std": (0.25,)}), tmp_path / "run", say=quiet
    )
    model = load(folder.best)
    assert model.config.in_channels == model.info.preprocessing.channels == 1


@pytest.fixture
def trained(tiny: Tiny, tmp_path: Path) -> Path:
    """Weights of the tiny model after an epoch."""
    return train(tiny(trainer={"epochs": 1}), tmp_path / "before", say=quiet).best


def test_frozen_stages_keep_their_weights(tiny: Tiny, trained: Path, tmp_path: Path) -> None:
    """Through averaging, clipping and decay; the rest does not, and the optimiser knows of the rest alone."""
    model = {"weights": str(trained), "frozen_stages": 1}
    folder = train(tiny(model=model, optimizer={"base_lr": 5.0}), tmp_path / "run", say=quiet)
    old, new = load_file(trained), load_file(folder.best)
    kept = {name for name in old if torch.equal(old[name], new[name])}
    assert kept == {name for name in old if name.startswith(("patch_embed.", "stages.0."))}
    groups = torch.load(folder.last, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert sum(len(group["params"]) for group in groups) == len(old) - len(kept)


def test_fine_tuning_begins_at_the_weights(tiny: Tiny, trained: Path, tmp_path: Path) -> None:
    """With a learning rate of next to nothing, it ends there too."""
    slow = {"optimizer": {"base_lr": 1e-9}, "schedule": {"warmup_lr": 0.0, "min_lr": 0.0}, "trainer": {"epochs": 1}}
    recipe, lines = tiny(model={"weights": str(trained)}, **slow), []
    folder = train(recipe, tmp_path / "run", say=lines.append)
    old, new = load_file(trained), load_file(folder.best)
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)
    assert lines[:2] == [
        f"starting from {trained} (swinv2): head kept; window 2 (trained at 2)",
        "2 classes (cat, dog), 32 + 8 images, on cpu",
    ]
    assert load_recipe(folder.config).model.weights == str(trained)


def test_unreadable_and_other_files_are_listed(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "dog" / "notes.txt").write_text("good dogs")
    folder = train(tiny(), tmp_path / "run", say=quiet)
    lines = folder.skipped.read_text().splitlines()
    assert len(lines) == 2
    assert {Path(line.split(":")[0]).name for line in lines} == {"broken.png", "notes.txt"}


def test_strict_stops_at_an_unreadable_file(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "broken.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"broken\.png: ") as caught:
        train(tiny(data={"strict": True}), tmp_path / "run", say=quiet)
    assert "\n" not in str(caught.value)


def test_batches_without_a_readable_image_are_passed_over(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    for path in (photos / "cat").glob("*.png"):
        path.write_bytes(b"")
    folder = train(tiny(trainer={"epochs": 1, "batch_size": 1}), tmp_path / "run", say=quiet)
    assert len(folder.skipped.read_text().splitlines()) == 20
    assert folder.rows[0]["val_top1"] in (0.0, 1.0)  # only dogs are left


def test_a_terminal_shows_progress_that_counts_from_1(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar is drawn on standard error; the log still goes where standard output goes."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(tiny(trainer={"epochs": 2}), tmp_path / "run")
    shown = terminal.getvalue()
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["epoch 1/2", "epoch 2/2"]
    assert "epoch 2/2" in shown
    assert "train_loss" in shown
    assert "v_num" not in shown


def test_time_can_be_limited(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"epochs": 1000, "max_minutes": 0.01}), tmp_path / "run", say=quiet)
    assert 1 <= folder.rows[-1]["epoch"] < 100
    assert folder.best.exists()
    assert folder.last.exists()


def test_an_existing_folder_is_refused_and_left_alone(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=r"run exists: choose another --out"):
        train(tiny(), tmp_path / "run", say=quiet)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"model": {"name": "swinv2_nono"}}, "nearest is 'swinv2_nano'"),
        ({"model": {"name": "swinv2_video_tiny"}}, "swinv2_video_tiny is a model of videos"),
        ({"data": {"path": "nowhere"}}, "nowhere"),
        pytest.param(
            {"trainer": {"accelerator": "gpu"}},
            "Lightning cannot run",
            marks=pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU"),
        ),
        ({"preprocessing": {"mean": (0.5,) * 4, "std": (0.5,) * 4}}, "transparency"),
    ],
)
def test_impossible_recipes_are_refused(tiny: Tiny, tmp_path: Path, groups: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        train(tiny(**groups), tmp_path / "run", say=quiet)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_one_step(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"batch_size": 64}), tmp_path / "run", say=quiet)
    assert [row["step"] for row in folder.rows] == [1, 2, 3]


def test_a_folder_of_something_else_is_not_said_to_be_resumable(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(trainer={"epochs": 1}), tmp_path / "done", say=quiet)
    (tmp_path / "other").mkdir()
    for name, resumable in (("done", True), ("other", False)):
        with pytest.raises(ValueError, match="choose another --out") as caught:
            train(tiny(), tmp_path / name, say=quiet)
        assert ("--resume" in str(caught.value)) == resumable


def test_a_start_that_fails_at_the_first_batch_can_be_made_again(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    broken = photos / "cat" / "broken.png"
    broken.write_bytes(b"")
    recipe = tiny(data={"strict": True}, trainer={"epochs": 1, "batch_size": 33})
    with pytest.raises(ValueError, match=r"broken\.png"):
        train(recipe, tmp_path / "run", say=quiet)
    broken.unlink()
    assert train(recipe, tmp_path / "run", say=quiet).last.exists()


@pytest.mark.parametrize(("folder", "part"), [("train", "training"), ("val", "validation")])
def test_an_epoch_on_nothing_is_an_error(
    tiny: Tiny, class_folders: Callable[..., Path], tmp_path: Path, folder: str, part: str
) -> None:
    class_folders("parts/train", {"cat": 4, "dog": 4})
    root = class_folders("parts/val", {"cat": 2, "dog": 2}).parent
    for path in (root / folder).rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"none of the {part} samples can be read"):
        train(tiny(data={"path": str(root)}), tmp_path / "run", say=quiet)
    assert not (tmp_path / "run" / "best.safetensors").exists()


def break_loss(monkeypatch: pytest.MonkeyPatch, from_call: int, method: str) -> None:
    """Make the model's outputs infinite from a call of a step on."""
    original, calls = getattr(ClassificationTask, method), []

    def wrapped(self: ClassificationTask, *arguments: object) -> object:
        calls.append(0)
        if len(calls) == from_call:
            self.model.register_forward_hook(lambda *_: torch.full_like(_[2], torch.inf))
        return original(self, *arguments)

    monkeypatch.setattr(ClassificationTask, method, wrapped)


@pytest.mark.parametrize(("method", "step"), [("training_step", 5), ("validation_step", 8)])
def test_a_loss_that_is_no_number_ends_training_and_spares_the_checkpoints(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, step: int
) -> None:
    break_loss(monkeypatch, {"training_step": 6, "validation_step": 2}[method], method)
    with pytest.raises(Diverged, match=rf"the loss is nan at step {step}: lower optimizer\.base_lr"):
        train(tiny(), tmp_path / "run", say=quiet)
    folder = RunFolder(tmp_path / "run")
    assert [row["epoch"] for row in folder.rows] == [1]
    assert torch.load(folder.last, weights_only=True)["global_step"] == 4
    assert all(tensor.isfinite().all() for tensor in load_file(folder.best).values())


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, where torch has written a part."""
    save, seen = torch.save, []

    def fill_the_disk(checkpoint: object, file: io.BufferedWriter) -> None:
        if len(seen) == 2:
            file.write(b"some")
            raise RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed\nframe #0")
        save(checkpoint, file)
        seen.append(folder.last.read_bytes() if folder.last.exists() else b"")

    folder = RunFolder(tmp_path / "run")
    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(OSError, match="make room") as caught:
        train(tiny(), folder.path, say=quiet)
    assert "\n" not in str(caught.value)
    assert torch.load(folder.last, weights_only=True)["global_step"] == 8
    assert [path.name for path in folder.last.parent.iterdir()] == ["last.ckpt"]
    monkeypatch.undo()
    assert [row["epoch"] for row in train(tiny(), folder.path, resume=True, say=quiet).rows] == [1, 2, 3]


def test_checkpoints_are_written_beside_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the temporary folder, which may be another disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    WholeCheckpoints().save_checkpoint({"epoch": 1}, tmp_path / "run" / "last.ckpt")
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True) == {"epoch": 1}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    norms = []

    def measure(self: ClassificationTask, *_: object) -> None:
        norms.append(torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None]).norm().item())

    monkeypatch.setattr(ClassificationTask, "on_train_batch_end", measure)
    options = {"trainer": {"epochs": 1, "precision": precision}}
    train(tiny(**options, optimizer={"clip_norm": 1e-3}), tmp_path / "clipped", say=quiet)
    assert norms == pytest.approx([1e-3] * 4, rel=0.01)
    norms.clear()
    train(tiny(**options, optimizer={"clip_norm": None}), tmp_path / "free", say=quiet)
    assert min(norms) > 2e-3


def test_weights_trained_in_bf16_can_be_used(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"epochs": 1, "precision": "bf16-true"}), tmp_path / "run", say=quiet)
    assert all(tensor.dtype == torch.bfloat16 for tensor in load_file(folder.best).values())
    assert validate(folder)["loss"] == pytest.approx(folder.rows[0]["val_loss"], rel=0.05)


def test_training_needs_no_command_line() -> None:
    code = "import sys; sys.modules['jsonargparse'] = None; import swinv2.train.run"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0


def test_more_classes_than_a_matrix_can_show(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swinv2.tasks.metrics.MOST_CLASSES_OF_MATRIX", 1)
    folder = train(tiny(trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    assert folder.best.exists()
    assert not (folder.path / CONFUSION).exists()

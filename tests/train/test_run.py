import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from swinv2.checkpoint import native
from swinv2.data.loading import Samples, make_loader
from swinv2.data.sources import open_split
from swinv2.data.transforms import eval_transform
from swinv2.tasks.inference import infer
from swinv2.tasks.metrics import ClassificationMetrics
from swinv2.train.folder import RunFolder
from swinv2.train.options import ClassifyRecipe
from swinv2.train.recipe import load_recipe
from swinv2.train.run import train

Tiny = Callable[..., ClassifyRecipe]


def quiet(line: str) -> None:
    """Takes the log's lines."""


def same(a: Path, b: Path) -> bool:
    """Whether two weights files are equal to the bit."""
    first, second = load_file(a), load_file(b)
    return all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


def validate(folder: RunFolder) -> dict[str, float]:
    """Metrics of best.safetensors, from that file and the recipe's data alone."""
    loaded = native.load(folder.best)
    source = open_split(load_recipe(folder.config).data, "val")
    loader = make_loader(Samples(source, eval_transform(loaded.preprocessing)), batch_size=3, shuffle=False)
    metrics = ClassificationMetrics(len(loaded.classes))
    for batch, logits in infer(loaded.model, loader, torch.device("cpu")):
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
    assert load_recipe(folder.config) == recipe
    with folder.metrics.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8"), ("3", "12")]
    assert all(float(cell) >= 0 for row in rows for cell in row.values())
    assert float(rows[2]["train_loss"]) < float(rows[0]["train_loss"])
    assert len(lines) == 3
    assert lines[2].startswith("epoch 3/3  train loss ")
    assert native.load(folder.best).classes == ("cat", "dog")
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
        train(tiny(trainer={"epochs": 1, "checkpointing": on}), tmp_path / str(on), say=quiet) for on in (False, True)
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
    loaded = native.load(folder.best)
    assert loaded.model.config.in_channels == loaded.preprocessing.channels == 1


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
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True, write=len, flush=lambda: None))
    train(tiny(trainer={"epochs": 2}), tmp_path / "run", say=quiet)
    shown = capsys.readouterr().out
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


def test_a_batch_larger_than_the_data_is_one_step(tiny: Tiny, tmp_path: Path) -> None:
    folder = train(tiny(trainer={"batch_size": 64}), tmp_path / "run", say=quiet)
    assert [row["step"] for row in folder.rows] == [1, 2, 3]

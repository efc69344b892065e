"""After kill -9 at any time, --resume ends with the weights of the undisturbed run, to the bit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from swinv2.data.options import DataOptions
from swinv2.data.pack import pack
from swinv2.train.folder import RunFolder
from swinv2.train.options import Recipe
from swinv2.train.recipe import dump_recipe

Tiny = Callable[..., Recipe]
Train = Callable[..., int]
KILLED = -9
STEPS, CHECKPOINTS = 12, 6  # in the three epochs of the recipe, which saves every second step


@pytest.fixture(scope="module")
def forks() -> Iterator[subprocess.Popen[str]]:
    """The process that forks trainings."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killing.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    yield process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.fixture
def start(forks: subprocess.Popen[str], tmp_path: Path) -> Train:
    """Train to the end or to a death; the exit status."""

    def run(recipe: Recipe, out: str, at: list[Any] | None = None, resume: bool = False) -> int:
        assert forks.stdin is not None
        assert forks.stdout is not None
        file = tmp_path / "recipe.yaml"
        file.write_text(dump_recipe(recipe))
        order = {"recipe": str(file), "out": str(tmp_path / out), "at": at, "resume": resume}
        forks.stdin.write(json.dumps(order) + "\n")
        forks.stdin.flush()
        return int(forks.stdout.readline())

    return run


@pytest.fixture
def recipe(tiny: Tiny, photos: Path, tmp_path: Path) -> Callable[[str, int], Recipe]:
    """The tiny recipe on folders or shards, with a number of workers; it mixes, drops paths and averages weights."""

    def make(layout: str, workers: int) -> Recipe:
        data: dict[str, Any] = {"workers": workers}
        if layout != "folder":
            list(pack(DataOptions(path=str(photos)), tmp_path / "shards", size=600))
            data |= {"path": str(tmp_path / "shards"), "order": layout, "buffer": 8}
        return tiny(data=data, trainer={"save_every": 2})

    return make


def everything(folder: RunFolder) -> dict[str, torch.Tensor]:
    """Weights, average and moments of the last checkpoint, and its last learning rate."""
    checkpoint = torch.load(folder.last, weights_only=True)
    moments = checkpoint["optimizer_states"][0]["state"]
    return {
        **{f"average {name}": tensor for name, tensor in checkpoint["state_dict"].items()},
        **{f"raw {name}": tensor for name, tensor in checkpoint["current_model_state"].items()},
        **{f"{name} {index}": tensor for index, entry in moments.items() for name, tensor in entry.items()},
        "rate": torch.tensor(checkpoint["lr_schedulers"][0]["_last_lr"]),
        "step": torch.tensor(checkpoint["global_step"]),
    }


def assert_survives(start: Train, recipe: Recipe, root: Path, deaths: list[list[Any]]) -> None:
    assert start(recipe, "whole") == 0
    whole = RunFolder(root / "whole")
    expected = everything(whole)
    assert expected["step"] == STEPS
    for number, at in enumerate(deaths):
        out = f"run{number}"
        status = start(recipe, out, at)
        assert status in ((0, KILLED) if at[0] == "seconds" else (KILLED,)), at
        assert start(recipe, out, resume=(root / out).exists()) == 0, at
        folder = RunFolder(root / out)
        ours = everything(folder)
        assert ours.keys() == expected.keys()
        assert [name for name in ours if not torch.equal(ours[name], expected[name])] == [], at
        columns = ("epoch", "step", "lr", "val_loss", "val_top1")
        assert [[row[c] for c in columns] for row in folder.rows] == [[row[c] for c in columns] for row in whole.rows]
        best, expected_best = load_file(folder.best), load_file(whole.best)
        assert all(torch.equal(best[name], expected_best[name]) for name in best.keys() | expected_best.keys()), at
        assert [path.name for path in folder.last.parent.iterdir()] == ["last.ckpt"], at


@pytest.mark.slow
def test_killed_in_a_checkpoint(start: Train, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """One of the points of the slow test."""
    assert_survives(start, recipe("folder", 0), tmp_path, [["write", 2]])


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["folder", "images", "shards", "resampled"])
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_any_time(
    start: Train, recipe: Callable[..., Recipe], tmp_path: Path, layout: str, workers: int
) -> None:
    """Six points for each of eight kinds of data: 48 in all, other ones by $SWINV2_TEST_SEED."""
    seed = int(os.environ.get("SWINV2_TEST_SEED", "0"))
    dice = random.Random(f"{seed} {layout} {workers}")
    deaths: list[list[Any]] = [["step", step] for step in dice.sample(range(1, STEPS + 1), 2)]
    deaths += [["write", dice.randint(1, CHECKPOINTS)], ["rename", dice.randint(1, CHECKPOINTS)]]
    deaths += [["seconds", round(dice.uniform(0.2, 3.0), 2)] for _ in range(2)]
    assert_survives(start, recipe(layout, workers), tmp_path, deaths)

"""The commands in the headers of recipes: what they start can share the recipe's batch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from swinv2.train.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
TORCHRUN = re.compile(r"# Command:\s+torchrun (?:--nnodes (\d+) )?--nproc-per-node (\d+) -m swinv2 train")


def processes(path: Path) -> int | None:
    """That the command of a recipe starts; None where it starts one alone."""
    found = TORCHRUN.search(path.read_text())
    return int(found[1] or 1) * int(found[2]) if found else None


SHARED = {path: count for path in sorted(RECIPES.glob("*.yaml")) if (count := processes(path))}


def test_every_command_of_torchrun_is_understood() -> None:
    assert {path for path in RECIPES.glob("*.yaml") if "torchrun" in path.read_text()} == set(SHARED)
    assert len(SHARED) > 25


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_the_processes_share_the_batch(path: Path) -> None:
    trainer = load_recipe(path).trainer
    share = trainer.loader_batch(SHARED[path])
    assert share * SHARED[path] * trainer.accumulate == trainer.batch_size

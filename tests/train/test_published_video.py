"""The published recipes of videos against a table written down here from the paper's appendix.

Learning rates are effective ones: those of the step, at the recipe's own batch.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from swinv2.checkpoint.settle import wanted_config
from swinv2.config import SwinConfig, make_config
from swinv2.model import SwinTransformer
from swinv2.train.initial import asked, fresh_config
from swinv2.train.optim import optimise, warmup_steps
from swinv2.train.options import Recipe
from swinv2.train.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
KINETICS400 = 240_436
TRAINED = ((8, 12, 12),) * 3 + ((8, 6, 6),)
"""Of the images' pre-training, 12 x 12 at 192 pixels; and the window along time."""


class Row(NamedTuple):
    size: int
    window: int
    epochs: int
    warmup: float
    batch: int
    lr: float


TABLE = {
    "kinetics400_giant_w16_256": Row(256, 16, 20, 2.5, 80, 3.6e-4),
    "kinetics400_giant_w20_320": Row(320, 20, 5, 1, 64, 5e-5),
}


@cache
def read(name: str) -> Recipe:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    return replace(recipe, model=replace(recipe.model, weights=None)).completed()


@cache
def config_of(name: str) -> SwinConfig:
    """The first stage starts from weights of images, the second from those of the first."""
    stored = make_config("swinv2_giant", window_size=12, image_size=192, num_classes=400)
    for stage in TABLE:
        stored = wanted_config(stored, asked(read(stage), stored))
        if stage == name:
            break
    return stored


@cache
def on_meta(name: str) -> SwinTransformer:
    with torch.device("meta"):
        return SwinTransformer(config_of(name))


def test_the_table_has_every_published_recipe_of_videos() -> None:
    assert sorted(TABLE) == sorted(path.stem for path in RECIPES.glob("kinetics*.yaml"))


@pytest.mark.parametrize("name", TABLE)
def test_the_model_is_the_published_one(name: str) -> None:
    recipe, row, config = read(name), TABLE[name], config_of(name)
    assert (recipe.task, recipe.model.name) == ("video", "swinv2_video_giant")
    assert (recipe.input_size, recipe.video.views) == ((8, row.size, row.size), (1, 1))
    assert config.window_size == ((8, row.window, row.window),) * 4
    assert config.trained_window_size == TRAINED
    named = make_config("swinv2_video_giant", patch_size=(1, 4, 4))
    for field in ("embed_dim", "depths", "num_heads", "patch_size", "merge_size", "extra_norm_interval"):
        assert getattr(config, field) == getattr(named, field)
    assert config.grids(recipe.input_size)[0] == (8, row.size // 4, row.size // 4), "a window spans the clip"


@pytest.mark.parametrize("name", TABLE)
def test_optimiser_and_schedule_are_the_published_ones(name: str) -> None:
    recipe, row = read(name), TABLE[name]
    steps = KINETICS400 // row.batch
    total = row.epochs * steps
    assert (recipe.trainer.epochs, recipe.trainer.steps, recipe.trainer.batch_size) == (row.epochs, None, row.batch)
    assert warmup_steps(recipe, total) == round(row.warmup * steps)
    made = optimise(on_meta(name), recipe=recipe, total_steps=total)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1, 0.0}
    assert [group["initial_lr"] for group in optimizer.param_groups] == pytest.approx([row.lr] * 2)
    curve = scheduler.lr_lambdas[0]
    rates = [row.lr * curve(step) for step in (0, round(row.warmup * steps), total)]
    assert rates == pytest.approx([row.lr / 1000, row.lr, row.lr / 100])
    assert recipe.schedule.kind == "cosine"


@pytest.mark.parametrize("name", TABLE)
def test_the_header_tells_the_temporal_patch_that_it_assumes(name: str) -> None:
    header = "\n".join(line for line in (RECIPES / f"{name}.yaml").read_text().splitlines() if line.startswith("#"))
    assert re.search(r"# Assumed.*\n?.*a temporal patch of 1\b", header)


@pytest.mark.parametrize("name", [*TABLE, "finetune_videos", "motion_nano"])
def test_the_header_says_command_hardware_and_expectation(name: str) -> None:
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert re.search(rf"# Command: .*[ #\\\n]+.*recipes/{name}\.yaml", header)
    assert "# Hardware:" in header
    assert "# Expect:" in header


def test_the_recipe_of_what_moves_is_a_model_of_clips() -> None:
    recipe = read("motion_nano")
    config = fresh_config(recipe, num_classes=8)
    assert (recipe.task, recipe.input_size, recipe.augment.hflip) == ("video", (8, 64, 64), 0)
    assert config.grids(recipe.input_size) == ((4, 8, 8), (4, 4, 4)) == config.window_size == config.trained_window_size

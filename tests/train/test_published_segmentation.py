"""The published recipes of segmentation against a table written down here from the paper.

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

from swinv2.config import make_config
from swinv2.data.segmentation_options import SegmentationAugmentOptions
from swinv2.model.upernet import Segmenter
from swinv2.train.optim import optimise, warmup_steps
from swinv2.train.options import Recipe
from swinv2.train.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


class Row(NamedTuple):
    name: str
    size: int
    window: int
    trained: tuple[int, ...]
    steps: int
    warmup: int
    batch: int
    lr: float
    drop_path: float = 0.3


def ablation(name: str) -> Row:
    return Row(name, 512, 16, (8,) * 4, 160_000, 1500, 16, 4e-5)


def system(name: str) -> Row:
    return Row(name, 640, 40, (12, 12, 12, 6), 40_000, 375, 64, 6e-5)


TABLE = {
    "ade20k_upernet_tiny_w16_512": ablation("swinv2_tiny"),
    "ade20k_upernet_small_w16_512": ablation("swinv2_small"),
    "ade20k_upernet_base_w16_512": ablation("swinv2_base"),
    "ade20k_upernet_base_w40_640": system("swinv2_base"),
    "ade20k_upernet_large_w40_640": system("swinv2_large"),
    "ade20k_upernet_giant_w40_640": Row("swinv2_giant", 640, 40, (12, 12, 12, 6), 80_000, 750, 32, 4e-5, drop_path=0.4),
}


@cache
def read(name: str) -> Recipe:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    return replace(recipe, model=replace(recipe.model, weights=None)).completed()


@cache
def on_meta(name: str) -> Segmenter:
    recipe = read(name)
    options = recipe.model
    config = make_config(
        str(options.name),
        window_size=options.window_size,
        image_size=options.size,
        num_classes=150,
        **options.overrides,
    )
    with torch.device("meta"):
        return Segmenter(config, **recipe.segment.heads)


def test_the_table_has_every_published_recipe_of_segmentation() -> None:
    assert sorted(TABLE) == sorted(path.stem for path in RECIPES.glob("ade20k_*.yaml"))


@pytest.mark.parametrize("name", TABLE)
def test_the_model_is_the_published_one(name: str) -> None:
    recipe, row = read(name), TABLE[name]
    model = on_meta(name)
    assert (recipe.task, recipe.model.name, recipe.model.size) == ("segment", row.name, (row.size, row.size))
    assert model.config.window_size == ((row.window, row.window),) * 4
    assert model.config.trained_window_size == tuple((window, window) for window in row.trained)
    assert model.config.drop_path_rate == row.drop_path
    assert (model.heads.channels, model.heads.auxiliary_channels, model.heads.auxiliary_weight) == (512, 256, 0.4)
    assert (model.heads.auxiliary_map, model.heads.pool_bins, model.heads.dropout) == (2, (1, 2, 3, 6), 0.1)


@pytest.mark.parametrize("name", TABLE)
def test_optimiser_and_schedule_are_the_published_ones(name: str) -> None:
    recipe, row = read(name), TABLE[name]
    model, trainer = on_meta(name), recipe.trainer
    assert (trainer.epochs, trainer.steps, trainer.batch_size) == (None, row.steps, row.batch)
    assert warmup_steps(recipe, row.steps) == row.warmup
    made = optimise(model, recipe=recipe, total_steps=row.steps)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.05, 0.0}
    assert (recipe.optimizer.betas, recipe.optimizer.clip_norm) == ((0.9, 0.999), None)
    peaks = [group["initial_lr"] for group in optimizer.param_groups]
    layers = sum(model.config.depths) + 2
    assert sorted(set(peaks), reverse=True) == pytest.approx([row.lr * 0.95**below for below in range(layers)])
    curve = scheduler.lr_lambdas[peaks.index(max(peaks))]
    middle = (row.warmup + row.steps) // 2
    assert [row.lr * curve(step) for step in (0, row.warmup, row.steps)] == pytest.approx([row.lr * 1e-6, row.lr, 0])
    assert curve(middle) == pytest.approx(0.5, abs=1e-4)
    heads = {id(parameter) for head in (model.head, model.auxiliary_head) for parameter in head.parameters()}
    of_heads = [group for group in optimizer.param_groups if any(id(p) in heads for p in group["params"])]
    assert {group["initial_lr"] for group in of_heads} == {max(peaks)}


@pytest.mark.parametrize("name", TABLE)
def test_data_and_loss_are_the_published_ones(name: str) -> None:
    recipe, row = read(name), TABLE[name]
    assert recipe.segment.layout.resize == row.size
    assert recipe.segment.augment == SegmentationAugmentOptions()
    assert (recipe.segment.augment.ratio, recipe.segment.augment.hflip) == ((0.5, 2.0), 0.5)
    assert recipe.segment.loss.average == "all"
    assert recipe.input.interpolation == "bilinear"


@pytest.mark.parametrize("name", [*TABLE, "segment_camvid"])
def test_the_header_says_command_hardware_and_expectation(name: str) -> None:
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert re.search(rf"# Command: .*[ #\\\n]+recipes/{name}\.yaml", header)
    assert "# Hardware:" in header
    assert "# Expect:" in header


def test_the_recipe_for_two_cores_is_read() -> None:
    recipe = read("segment_camvid")
    assert len(recipe.segment.loss.class_weights) == recipe.segment.layout.ignore_index == 11
    assert on_meta("segment_camvid").head.classifier.in_channels == 64

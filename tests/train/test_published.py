"""The published recipes against a table written down here from the papers and the released configurations.

Learning rates are effective ones: those of the step, at the recipe's own batch.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from swinv2.config import make_config
from swinv2.data.transforms import mixing, train_transform
from swinv2.model import SimMIM, SwinTransformer
from swinv2.train.optim import optimise, warmup_steps
from swinv2.train.options import Recipe
from swinv2.train.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
IMAGENET_1K, IMAGENET_22K = 1_281_167, 14_197_122


class Row(NamedTuple):
    name: str
    size: int
    windows: tuple[int, ...]  # by stage
    trained: tuple[int, ...]
    drop_path: float
    epochs: int
    batch: int
    lr: float
    min_lr: float
    first_lr: float
    decay: float
    clip: float
    warmup: float  # epochs, or steps where 1000 and more
    images: int = IMAGENET_1K
    layer_decay: float | None = None


def scratch(name: str, window: int, drop_path: float) -> Row:
    windows = (window, window, window, 8)
    return Row(name, 256, (window,) * 4, windows, drop_path, 300, 1024, 1e-3, 1e-5, 1e-6, 0.05, 5, 20)


def tuned(name: str, size: int, window: int) -> Row:
    return Row(
        name, size, (window,) * 4, (12, 12, 12, 6), 0.2, 30, 1024, 4e-5, 4e-7, 4e-8, 1e-8, 5, 5
    )  # fmt: skip


def pretrained(name: str) -> Row:
    return Row(
        name, 192, (12,) * 4, (12, 12, 12, 6), 0.2, 90, 4096, 1e-3, 1e-5, 1e-6, 0.1, 5, 5, IMAGENET_22K
    )  # fmt: skip


TABLE = {
    "imagenet1k_tiny_w8": scratch("swinv2_tiny", 8, 0.2),
    "imagenet1k_tiny_w16": scratch("swinv2_tiny", 16, 0.2),
    "imagenet1k_small_w8": scratch("swinv2_small", 8, 0.3),
    "imagenet1k_small_w16": scratch("swinv2_small", 16, 0.3),
    "imagenet1k_base_w8": scratch("swinv2_base", 8, 0.5),
    "imagenet1k_base_w16": scratch("swinv2_base", 16, 0.5),
    "imagenet22k_base_w12_192": pretrained("swinv2_base"),
    "imagenet22k_large_w12_192": pretrained("swinv2_large"),
    "imagenet22k_to_1k_base_w16_256": tuned("swinv2_base", 256, 16),
    "imagenet22k_to_1k_base_w24_384": tuned("swinv2_base", 384, 24),
    "imagenet22k_to_1k_large_w16_256": tuned("swinv2_large", 256, 16),
    "imagenet22k_to_1k_large_w24_384": tuned("swinv2_large", 384, 24),
    "simmim_to_1k_base_w14_224": Row(
        "swinv2_base", 224, (14,) * 4, (12, 12, 12, 6), 0.1, 100, 2048, 5e-3, 1e-6, 1e-6, 0.05, 5, 20, layer_decay=0.75
    ),
    "simmim_base_w12_192": Row(
        "swinv2_base", 192, (12,) * 4, (12, 12, 12, 6), 0.1, 800, 2048, 4e-4, 4e-5, 2e-6, 0.05, 5, 10
    ),
    "giant_stage1_simmim": Row(
        "swinv2_giant", 192, (12,) * 4, (12, 12, 12, 6), 0.1, 20, 9216, 1.4e-3, 1.4e-5, 1.4e-6, 0.1, 100, 30_000,
        70_000_000,
    ),
    "giant_stage2": Row(
        "swinv2_giant", 192, (12,) * 4, (12, 12, 12, 6), 0.3, 30, 9216, 1.4e-3, 1.4e-5, 1.4e-6, 0.1, 100, 20_000,
        70_000_000, 0.87,
    ),
    "giant_imagenet1k_640": Row(
        "swinv2_giant", 640, (40,) * 4, (12, 12, 12, 6), 0.5, 10, 576, 2.1e-5, 2.1e-7, 2.1e-8, 0.1, 100, 2
    ),
}  # fmt: skip

OWN = {
    "cifar10_2500",
    "cifar10_micro",
    "cifar10_simmim",
    "digits_nano",
    "finetune_folder",
    "finetune_videos",
    "folder_nano",
    "simmim_nano",
}
OTHER_TASKS = (
    "ade20k_",
    "coco_",
    "detect_",
    "kinetics400_",
    "motion_",
    "objects365_",
    "segment_",
)  # see test_published_{detection,segmentation,video}.py
PUBLISHED = sorted({path.stem for path in RECIPES.glob("*.yaml") if not path.stem.startswith(OTHER_TASKS)} - OWN)


def read(name: str) -> Recipe:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    return replace(recipe, model=replace(recipe.model, weights=None)).completed()


def on_meta(recipe: Recipe) -> SwinTransformer | SimMIM:
    options = recipe.model
    config = make_config(
        str(options.name), window_size=options.window_size, image_size=options.size, **options.overrides
    )
    with torch.device("meta"):
        return SimMIM(config) if recipe.task == "simmim" else SwinTransformer(config)


def test_the_table_has_every_published_recipe() -> None:
    assert sorted(TABLE) == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_model_is_the_published_one(name: str) -> None:
    recipe, row = read(name), TABLE[name]
    config = on_meta(recipe).config
    assert (recipe.model.name, recipe.model.size) == (row.name, (row.size, row.size))
    assert config.window_size == tuple((window, window) for window in row.windows)
    assert config.trained_window_size == tuple((window, window) for window in row.trained)
    assert config.drop_path_rate == row.drop_path
    assert recipe.task == ("simmim" if "simmim_to" not in name and "simmim" in name else "classify")


@pytest.mark.parametrize("name", PUBLISHED)
def test_optimiser_and_schedule_are_the_published_ones(name: str) -> None:
    recipe, row = read(name), TABLE[name]
    total = row.epochs * (row.images // row.batch)
    warmup = row.warmup if row.warmup >= 1000 else row.warmup * (row.images // row.batch)
    made = optimise(on_meta(recipe), recipe=recipe, total_steps=total)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert warmup_steps(recipe, total) == warmup
    peaks = [group["initial_lr"] for group in optimizer.param_groups]
    peak, curve = max(zip(peaks, scheduler.lr_lambdas, strict=True), key=lambda pair: pair[0])
    middle = (warmup + total) / 2
    rates = [peak * curve(step) for step in (0, warmup, middle, total)]
    between = row.lr if recipe.schedule.kind == "multistep" else (row.lr + row.min_lr) / 2
    assert rates == pytest.approx([row.first_lr, row.lr, between, row.min_lr], rel=1e-6)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {row.decay, 0.0}
    layers = sum(on_meta(recipe).config.depths) + 2 if row.layer_decay else 1
    expected = [row.lr * (row.layer_decay or 1.0) ** below for below in range(layers)]
    assert sorted(set(peaks), reverse=True) == pytest.approx(expected, rel=1e-6)
    assert (recipe.optimizer.betas, recipe.optimizer.eps) == ((0.9, 0.999), 1e-8)
    assert recipe.optimizer.clip_norm == row.clip
    assert (recipe.trainer.epochs, recipe.trainer.batch_size) == (row.epochs, row.batch)


def test_simmim_falls_at_epoch_700_and_hides_what_is_published() -> None:
    recipe = read("simmim_base_w12_192")
    total = 800 * (IMAGENET_1K // 2048)
    made = optimise(on_meta(recipe), recipe=recipe, total_steps=total)
    curve = made["lr_scheduler"]["scheduler"].lr_lambdas[0]
    fall = 700 * (IMAGENET_1K // 2048)
    assert [curve(fall - 1), curve(fall)] == pytest.approx([1.0, 0.1])
    for name in ("simmim_base_w12_192", "giant_stage1_simmim"):
        recipe = read(name)
        assert (recipe.simmim.mask_unit, recipe.simmim.mask_ratio, recipe.simmim.target_window) == (32, 0.6, 47)
        assert (recipe.augment.scale, recipe.augment.hflip, recipe.augment.rand_augment) == ((0.67, 1.0), 0.5, None)
        assert recipe.augment.erase == recipe.augment.color_jitter == 0


@pytest.mark.parametrize("name", [name for name in PUBLISHED if read(name).task == "classify"])
def test_the_augmentation_is_the_published_one(name: str) -> None:
    augment = read(name).augment
    expected: dict[str, Any] = {
        "crop": "random_resized", "scale": (0.08, 1.0), "rand_augment": "rand-m9-mstd0.5-inc1", "color_jitter": 0.4,
        "erase": 0.25, "label_smoothing": 0.1, "interpolation": "bicubic", "hflip": 0.5,
        "mixup": 0.0 if "giant" in name else 0.8, "cutmix": 0.0 if "giant" in name else 1.0,
    }  # fmt: skip
    assert {key: getattr(augment, key) for key in expected} == expected
    train_transform(augment, read(name).input)
    assert (mixing(augment, 1000) is None) == ("giant" in name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_header_says_command_hardware_duration_and_expectation(name: str) -> None:
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert re.search(rf"# Command: .*[ #\\\n]+recipes/{name}\.yaml", header)
    assert "# Hardware:" in header
    assert re.search("duration|Not run here", header)
    assert "# Expect:" in header

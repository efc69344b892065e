"""A training run of seconds: two classes of coloured images, 8 pixels wide, and a model of two small stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.train.options import (
    ModelOptions,
    OptimizerOptions,
    PreprocessingOptions,
    Recipe,
    ScheduleOptions,
    TrainerOptions,
)

STEPS_PER_EPOCH = 4

TINY = Recipe(
    model=ModelOptions(
        image_size=8,
        window_size=2,
        overrides={
            "embed_dim": 8,
            "depths": [1, 2],
            "num_heads": [1, 2],
            "patch_size": [2, 2],
            "drop_path_rate": 0.2,
        },
    ),
    preprocessing=PreprocessingOptions(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    augment=AugmentOptions(crop="pad", pad=1, rand_augment=None, erase=0),
    optimizer=OptimizerOptions(base_lr=0.5),
    schedule=ScheduleOptions(warmup_epochs=0.5),
    trainer=TrainerOptions(epochs=3, batch_size=8, accelerator="cpu", ema_decay=0.8),
)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Everywhere below this folder."""


@pytest.fixture
def photos(class_folders: Callable[..., Path]) -> Path:
    """20 + 20 images, of which 16 + 16 are for training: four steps an epoch."""
    return class_folders(counts={"cat": 20, "dog": 20})


@pytest.fixture
def tiny(photos: Path) -> Callable[..., Recipe]:
    """The recipe, with other options for one group: tiny(trainer={"epochs": 1})."""

    def make(**groups: dict[str, Any]) -> Recipe:
        recipe = replace(TINY, data=DataOptions(path=str(photos), workers=0))
        return replace(recipe, **{name: replace(getattr(recipe, name), **options) for name, options in groups.items()})

    return make

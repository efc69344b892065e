"""What the trainings of a study start from: a base recipe by data and scale, and changes to it by dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from swinv2.config import did_you_mean
from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.study.base import Cell, Family, Setting, Study
from swinv2.train.engine_options import OptimizerOptions, ScheduleOptions, TrainerOptions
from swinv2.train.options import ModelOptions, PreprocessingOptions, Recipe

T = TypeVar("T")

BASES: Mapping[Family, Recipe] = {
    "digits": Recipe(
        model=ModelOptions(name="swinv2_nano", image_size=16, window_size=4),
        preprocessing=PreprocessingOptions(mean=(0.305,), std=(0.376,), interpolation="bilinear"),
        data=DataOptions(workers=0),
        augment=AugmentOptions(
            crop="pad", pad=2, hflip=0, rand_augment=None, color_jitter=0, erase=0, mixup=0, cutmix=0
        ),
        optimizer=OptimizerOptions(base_lr=8e-3),
        schedule=ScheduleOptions(warmup_epochs=2, warmup_lr=1e-5, min_lr=1e-5),
        trainer=TrainerOptions(epochs=20, batch_size=64, save_every=20),
    ),
    "images": Recipe(
        model=ModelOptions(name="swinv2_nano", image_size=32, window_size=4),
        preprocessing=PreprocessingOptions(mean=(0.491, 0.482, 0.447), std=(0.247, 0.243, 0.262)),
        data=DataOptions(workers=2),
        augment=AugmentOptions(crop="pad", pad=4, rand_augment=None, color_jitter=0, erase=0, mixup=0, cutmix=0),
        optimizer=OptimizerOptions(base_lr=4e-3),
        schedule=ScheduleOptions(warmup_epochs=1, warmup_lr=1e-5, min_lr=1e-5),
        trainer=TrainerOptions(epochs=8, batch_size=128, save_every=50),
    ),
    "paper": Recipe(
        model=ModelOptions(name="swinv2_tiny", image_size=256, window_size=8, overrides={"drop_path_rate": 0.2}),
        preprocessing=PreprocessingOptions(crop_fraction=0.875),
        data=DataOptions(workers=8),
        trainer=TrainerOptions(epochs=300, batch_size=1024, precision="bf16-mixed", save_every=1000),
    ),
}
"""Laptop: recipes/digits_nano.yaml and cifar10_micro.yaml, shorter and narrower; paper: imagenet1k_tiny_w8.yaml."""

SIMMIM: Mapping[str, Any] = {
    "task": "simmim",
    "augment.crop": "random_resized",
    "augment.scale": (0.67, 1.0),
    "augment.rand_augment": None,
    "augment.color_jitter": 0,
    "augment.erase": 0,
    "augment.mixup": 0,
    "augment.cutmix": 0,
    "augment.label_smoothing": 0,
}
"""Changes that make pre-training of any of them, but for its masks."""


FIXED = ("data.path", "task", "model.weights", "trainer.accumulate", "trainer.max_minutes")
"""Options of a recipe that follow from those of a study, or from the planner; a cell is trained to its end."""


def recipes(study: Study, setting: Setting, cells: Mapping[str, Cell]) -> dict[str, Recipe]:
    """The recipe of each cell that trains; of one that starts from another's weights, as if from scratch.

    A recipe that does not say when to validate does so at its end alone: its best weights are then its last, and were
    not chosen by the images that they are judged by.

    Raises:
        ValueError: An option that does not exist, that cannot be, or in which the cells differ.
    """
    for name in setting.changes:
        if any(f"{name}.".startswith(f"{fixed}.") for fixed in (*study.varies, *FIXED)):
            raise ValueError(f"{name} is what this study varies or sets by itself: leave it out.")
    base = changed(BASES[setting.family], {"data.path": setting.data, **study.bases.get(setting.family, {})})
    made = {}
    for name, cell in cells.items():
        if cell.changes is not None:
            recipe = changed(base, {**setting.changes, **cell.changes})
            every = recipe.trainer.validate_every or recipe.trainer.total
            made[name] = changed(recipe, {"trainer.validate_every": every})
    return made


def changed(options: T, changes: Mapping[str, Any]) -> T:
    """Options, of a recipe or of a group, with those of the dotted names replaced, all at once.

    Raises:
        ValueError: A name that does not exist, or values that do not go together.
    """
    whole: dict[str, Any] = {}
    within: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        group, _, rest = name.partition(".")
        if isinstance(options, dict):
            whole[name] = value
        elif not hasattr(options, group):
            raise ValueError(f"there is no option {name} of a recipe{did_you_mean(group, vars(options))}.")
        elif rest:
            within.setdefault(group, {})[rest] = value
        else:
            whole[group] = value
    for group, inner in within.items():
        whole[group] = changed(whole.get(group, getattr(options, group)), inner)
    if isinstance(options, dict):
        return {**options, **whole}  # type: ignore[return-value]
    made: T = replace(options, **whole)  # type: ignore[type-var]
    return made

"""A training run of seconds: two classes of coloured images, 8 pixels wide, and a model of two small stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swinv2.data.detection_options import CocoLayout, DetectionAugmentOptions
from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.train.options import (
    DetectOptions,
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

TRIANGLE = [[2.0, 2.0, 26.0, 2.0, 2.0, 22.0]]

# All of HTC++. It learns from all anchors and boxes, so that none are drawn, and steps by gradients that are not tiny
# alone, so that rounding is no whole step.
DETECTION = Recipe(
    task="detect",
    model=ModelOptions(
        image_size=32,
        window_size=2,
        overrides={
            "embed_dim": 8,
            "depths": [1, 2],
            "num_heads": [1, 2],
            "patch_size": [2, 2],
            "drop_path_rate": 0.0,
        },
    ),
    detect=DetectOptions(
        detector="htc_plus_plus",
        heads={
            "pyramid_channels": 8,
            "box_features": 8,
            "score_threshold": 0.0,
            "detections_per_image": 10,
            "proposals_before_nms": [50, 50],
            "proposals_after_nms": [20, 20],
            "proposal_samples": 10**5,
            "box_samples": 10**5,
            "box_positives": 0.5,
        },
        layout=CocoLayout(empty=True),
        augment=DetectionAugmentOptions(short_side=(24, 32), short_step=4, long_side=48),
    ),
    optimizer=OptimizerOptions(base_lr=0.5, eps=1e-3),
    schedule=ScheduleOptions(kind="constant", warmup_epochs=0),
    trainer=TrainerOptions(epochs=1, batch_size=2, accelerator="cpu"),
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
    return changing(TINY, photos)


@pytest.fixture
def detection(coco_file: Callable[..., Path]) -> Callable[..., Recipe]:
    """The same of HTC++ on six images to train on and three to validate, each with a triangle but the last of each."""
    for part, count in (("train", 6), ("val", 3)):
        triangles = [
            {"image_id": number, "category_id": 3, "bbox": [2, 2, 24, 20], "segmentation": TRIANGLE}
            for number in range(1, count)
        ]
        images = {f"{part}-{number}.png": (40, 30) for number in range(count)}
        root = coco_file(f"{part}.json", images=images, annotations=triangles).parent
    return changing(DETECTION, root)


def changing(recipe: Recipe, data: Path) -> Callable[..., Recipe]:
    """The recipe on these data, with other options for some groups."""
    recipe = replace(recipe, data=DataOptions(path=str(data), workers=0))

    def make(**groups: dict[str, Any]) -> Recipe:
        return replace(recipe, **{name: replace(getattr(recipe, name), **options) for name, options in groups.items()})

    return make

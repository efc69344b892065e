"""What a recipe says of its training step, in the options of `swinv2 plan`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swinv2.config import default_image_size
from swinv2.train.options import Recipe

HEADS = {"classify": "classifier", "segment": "upernet", "video": "classifier"}
"""What each task trains; a recipe of detection names its detector."""
PRECISIONS = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16"}
STRATEGIES = {"deepspeed": "zero1"}
"""What is planned as another."""


def is_recipe(name: str) -> bool:
    """Whether a recipe's file is meant rather than a model."""
    return Path(name).suffix.lower() in (".yaml", ".yml")


def options_of(path: Path, devices: int | None, batch: int | None) -> dict[str, Any]:
    """The options of `swinv2 plan` that a recipe answers, with "overrides" of the model, "fields" of the head, and
    "notes" for people.

    Args:
        path: its file.
        devices: that share the work, where asked for, else those of the recipe.
        batch: images on each of them, where asked for, else the recipe's share.

    Raises:
        ValueError: the recipe is none, names no model, or asks for what is not planned.
    """
    from swinv2.train.recipe import load_recipe

    recipe = load_recipe(path)
    _check(recipe, path)
    trainer, model = recipe.trainer, recipe.model
    notes = list(_notes(recipe, devices))
    if devices is None:
        devices = trainer.devices * trainer.nodes if isinstance(trainer.devices, int) else trainer.nodes
    batch = batch or trainer.loader_batch(devices)
    strategy = STRATEGIES.get(trainer.strategy, trainer.strategy)
    return {
        "name": str(model.name),
        "head": HEADS.get(recipe.task, recipe.detect.detector),
        "fields": {"detect": recipe.detect.heads, "segment": recipe.segment.heads}.get(recipe.task, {}),
        "overrides": model.overrides,
        "image_size": _largest(recipe, batch),
        "window_size": _window(model.window_size),
        "batch": batch,
        "precision": PRECISIONS[trainer.precision],
        "devices": devices,
        "strategy": "none" if devices == 1 else strategy.replace("auto", "ddp"),
        "checkpointing": "block" if recipe.checkpointing.every else "none",
        "attention": recipe.attention.backend,
        "attention_stages": recipe.attention.stages,
        "budget_mb": recipe.attention.budget_mb,
        "notes": notes,
    }


def _check(recipe: Recipe, path: Path) -> None:
    checkpointing = recipe.checkpointing
    for impossible, sentence in (
        (recipe.task == "simmim", "pre-trains by SimMIM, which is not planned: plan its model by name"),
        (recipe.model.name is None, "names no model, but takes that of its weights: add model.name"),
        (
            recipe.trainer.precision not in PRECISIONS,
            f"has trainer.precision {recipe.trainer.precision}, which is not planned: use {', '.join(PRECISIONS)}",
        ),
        (
            checkpointing.every > 1 or checkpointing.stages is not None,
            "has checkpointing of some blocks, but all or none are planned: set checkpointing.every to 1 or 0 and "
            "checkpointing.stages to null",
        ),
    ):
        if impossible:
            raise ValueError(f"{path} {sentence}.")


def _window(given: Any) -> Any:
    """As `make_config` takes it: lists of YAML as tuples."""
    return tuple(map(_window, given)) if isinstance(given, list) else given


def _largest(recipe: Recipe, batch: int) -> tuple[int, ...]:
    """The largest input that a batch may have: lying and standing images are padded to both."""
    augment = recipe.detect.augment
    if recipe.task == "detect" and augment.resize == "jitter":
        return augment.jitter_size
    if recipe.task == "detect":
        return (max(augment.short_side) if batch == 1 else augment.long_side, augment.long_side)
    size = recipe.model.image_size or default_image_size(str(recipe.model.name))[-2:]
    frames = (recipe.video.frames,) if recipe.axes == 3 else ()
    return (*frames, *((size, size) if isinstance(size, int) else size))


def _notes(recipe: Recipe, devices: int | None) -> Iterator[str]:
    """What the plan does not say or count."""
    trainer = recipe.trainer
    if devices is None and trainer.devices == "auto":
        yield f"the recipe leaves devices open: one in each machine shares {trainer.batch_size} images (--devices N)"
    if recipe.model.frozen_stages:
        yield f"the {recipe.model.frozen_stages} frozen stages are planned as if they were trained"
    if trainer.ema_decay is not None:
        yield "the moving average of the weights (trainer.ema_decay) is not counted: as much as the weights again"

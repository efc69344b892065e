"""The model that a run starts with, whatever its task: fresh, from someone's weights, or as its checkpoint says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from swinv2.checkpoint.transfer import FREE
from swinv2.config import VARIANTS, Stages, SwinConfig, make_config
from swinv2.info import ModelInfo
from swinv2.model import Native
from swinv2.storage import parse_kind, parse_metadata
from swinv2.tasks.models import make_model
from swinv2.train.consolidate import read_details
from swinv2.train.memory import economise
from swinv2.train.options import ModelOptions, Recipe


@dataclass(frozen=True)
class Initial:
    """A model before its first step, its recipe with nothing left open, and what people should know of it."""

    model: Native
    recipe: Recipe
    remarks: tuple[str, ...] = ()


def prepared(start: Initial) -> Initial:
    """The same with its model set up as the recipe trains it."""
    model, trainer = start.model, start.recipe.trainer
    model.train()
    model.body.freeze_stages(start.recipe.model.frozen_stages)
    economise(model.body, start.recipe.checkpointing, start.recipe.attention)
    if trainer.compile:
        model.compile()
    return start


def described(last: Path, recipe: Recipe, kind: str) -> Initial:
    """The model of a kind that a checkpoint describes, whose parameters whoever goes on loads."""
    said = read_details(last)["model"]
    config, info = parse_metadata(str(last), said)
    found, head = parse_kind(str(last), said, silent=kind)
    remedy = "resume with the config.yaml of its run"
    if found != kind:
        raise ValueError(f"{last} is of a {found}, but task {recipe.task} trains a {kind}: {remedy}.")
    _check_name(recipe.model, config, str(last), remedy)
    model = make_model(kind, config, head)
    model.info = info
    return Initial(model, recipe.completed(info.preprocessing))


def own_info(recipe: Recipe, classes: Sequence[str], source: str) -> ModelInfo:
    """What the weights of a run will say of themselves; how training held images out too, for who measures them."""
    division = {name: str(getattr(recipe.data, name)) for name in ("val_fraction", "split_seed")}
    return ModelInfo(classes=tuple(classes), preprocessing=recipe.input, source=source, extra=division)


def fresh_config(recipe: Recipe, num_classes: int) -> SwinConfig:
    """The architecture of a completed recipe that starts from scratch."""
    name, frozen = str(recipe.model.name), recipe.model.frozen_stages
    if name in VARIANTS and VARIANTS[name].ndim != 2:
        raise ValueError(f"{name} is a model of videos: training takes those of images.")
    if frozen:
        raise ValueError(f"model.frozen_stages {frozen} would keep random weights: give --weights, or use 0.")
    return make_config(
        name,
        window_size=recipe.model.window_size,
        image_size=recipe.model.size,
        num_classes=num_classes,
        in_channels=recipe.input.channels,
        **recipe.model.overrides,
    )


def check_weights(recipe: Recipe, stored: Native) -> None:
    """ValueError where a recipe asks of weights what they cannot give."""
    options, config = recipe.model, stored.config
    if config.ndim != 2:
        raise ValueError(f"{options.weights} is a model of videos: training takes those of images.")
    _check_name(options, config, str(options.weights), "leave model.name out")
    if options.frozen_stages > config.num_stages:
        raise ValueError(
            f"model.frozen_stages {options.frozen_stages} is more than the {config.num_stages} stages of "
            f"{options.weights}: use {config.num_stages} or fewer."
        )
    if config.in_channels != 3 and not (stored.info.preprocessing or recipe.preprocessing.mean):
        raise ValueError(
            f"{options.weights} takes {config.in_channels} channels and does not say their mean and std: give "
            "preprocessing.mean and preprocessing.std, one number a channel."
        )


def _check_name(options: ModelOptions, has: SwinConfig, where: str, remedy: str) -> None:
    """ValueError where a recipe's name means another architecture than `where` has."""
    if options.name is None:
        return
    named = make_config(options.name, **options.overrides).to_dict()
    for field, value in has.to_dict().items():
        if field not in FREE and named[field] != value:
            raise ValueError(
                f"model.name {options.name} has {field} {named[field]}, but {where} has {value}: {remedy}."
            )


def what_changes(stored: Native, new: SwinConfig, recipe: Recipe, whole: Recipe) -> Iterator[str]:
    """What is not as it was in the weights, beside the head."""
    old, known = stored.config, stored.info.preprocessing
    window, now = show_windows(old.window_size), show_windows(new.window_size)
    bias = "" if new.position_bias == "table" else f" (trained at {show_windows(new.trained_window_size)})"
    yield f"window {window} -> {now}{bias}" if window != now else f"window {now}{bias}"
    if known is not None and known.size != whole.model.size:
        yield f"images {'x'.join(map(str, known.size))} -> {'x'.join(map(str, whole.model.size))}"
    if known is None and recipe.preprocessing.mean is None:
        yield "mean and std unknown, so ImageNet's"
    if old.in_channels != new.in_channels:
        how = "summed" if new.in_channels == 1 else "repeated"
        yield f"{old.in_channels} -> {new.in_channels} channels, kernels {how}"
    if whole.model.frozen_stages:
        yield f"{whole.model.frozen_stages} of {new.num_stages} stages frozen"


def show_windows(windows: Stages) -> str:
    """Windows for people: one number where all stages and axes agree, else one entry a stage."""
    stages = [str(axes[0]) if len(set(axes)) == 1 else "x".join(map(str, axes)) for axes in windows]
    return stages[0] if len(set(stages)) == 1 else ",".join(stages)

"""The model that a run starts with, whatever its task: fresh, from someone's weights, or as its checkpoint says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from swinv2.checkpoint import load
from swinv2.checkpoint.settle import wanted_config
from swinv2.checkpoint.transfer import FREE, transfer
from swinv2.config import VARIANTS, Stages, SwinConfig, make_config
from swinv2.data.classes import find_classes
from swinv2.data.clips import ClipOptions
from swinv2.info import ModelInfo
from swinv2.model import Native
from swinv2.storage import ENCODERS, Stored, parse_kind, parse_metadata
from swinv2.tasks.models import BACKBONE, at_window, kind_of, load_model, make_model
from swinv2.train.consolidate import read_details
from swinv2.train.memory import economise
from swinv2.train.options import ModelOptions, Recipe

Make = Callable[[Recipe, SwinConfig], Native]
"""A fresh model with a head of its own on a backbone, for a completed recipe."""

TAKES = {1: "signals", 2: "images", 3: "videos"}
"""What a model is of, by the axes of its input."""

CLIPS = VARIANTS["swinv2_video_tiny"]
"""Tells how long patch and window are where weights of images are to take clips, and nobody says it."""

OF_CLIPS = ("patch_size", "merge_size")
"""Overrides that make a model of clips of one of images."""


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
        model.compilable.compile()
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


def headed(
    recipe: Recipe,
    classes: Sequence[str],
    last: Path | None,
    kind: str,
    make: Make,
    outputs: tuple[str, ...] = (),
) -> Initial:
    """A model with a head of its own: as a checkpoint tells it, around weights, or fresh; with its stages frozen.

    Args:
        recipe: What to train.
        classes: Names of the data's classes, in order.
        last: Checkpoint of a run that goes on: it tells the architecture.
        kind: Of the model.
        make: Makes it.
        outputs: How names of parameters begin that have a row for each class: these are kept for known classes alone.

    Raises:
        ValueError: The recipe does not make a model, or the weights do not fit it; the message says why.
    """
    if last is not None:
        return prepared(described(last, recipe, kind))
    if recipe.model.weights:
        return prepared(_around(recipe, recipe.model.weights, classes, make, outputs))
    recipe = recipe.completed()
    model = make(recipe, fresh_config(recipe, len(classes)))
    model.info = own_info(recipe, classes, model.info.source)
    return prepared(Initial(model, recipe))


def _around(recipe: Recipe, weights: str, classes: Sequence[str], make: Make, outputs: tuple[str, ...]) -> Initial:
    """On somebody's backbone, or from a whole model with a head, of which every tensor that fits is kept."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stored, config, tensors = _opened(recipe, weights)
    check_weights(recipe, stored)
    whole = recipe.completed(stored.info.preprocessing)
    if config.in_channels != whole.input.channels:
        raise ValueError(
            f"{weights} takes {config.in_channels} channels, but preprocessing.mean has {whole.input.channels} "
            "numbers: leave it out, or give one a channel."
        )
    model = make(whole, replace(config, num_classes=len(classes)))
    fresh = fill(model, _by_class(tensors, outputs, stored.info.classes, classes), outputs)
    model.info = own_info(whole, classes, stored.info.source)
    told = "; ".join([f"new: {fresh}" if fresh else "heads kept", *what_changes(stored, model.config, recipe, whole)])
    warned = (f"note: {warning.message}" for warning in caught)
    return Initial(model, whole, (f"starting from {weights} ({stored.info.source}): {told}", *warned))


def _opened(recipe: Recipe, weights: str) -> tuple[Native, SwinConfig, dict[str, Tensor]]:
    """The model as it is stored; architecture and tensors, those of a backbone below `BACKBONE`, as the recipe asks.

    The file is read once: what the model holds is moved to the recipe's window and channels.
    """
    options = recipe.model
    if kind_of(weights) not in (None, *ENCODERS):
        model = load_model(weights)
        stored = Stored(model.config, model.state_dict(), model.info, model.kind)
        moved = stored if options.window_size is None else at_window(stored, options.window_size)
        return model, replace(moved.config, **options.overrides), dict(moved.tensors)
    encoder = load(weights, dtype="keep", key=options.weights_key, **options.overrides)
    channels = recipe.completed(encoder.info.preprocessing).input.channels
    wanted = wanted_config(encoder.config, {"window_size": options.window_size, "in_channels": channels})
    tensors = transfer(encoder.state_dict(), encoder.config, wanted)
    return encoder, wanted, {f"{BACKBONE}{name}": tensor for name, tensor in tensors.items()}


def _by_class(
    tensors: Mapping[str, Tensor], outputs: tuple[str, ...], known: Sequence[str], classes: Sequence[str]
) -> dict[str, Tensor]:
    """Tensors with the rows of the data's classes, in their order; without these outputs where a class is not known."""
    places = [place for place in find_classes(classes, known) if place is not None]
    ours = {name for name in tensors if name.startswith(outputs)}
    kept = {name: tensor for name, tensor in tensors.items() if name not in ours}
    return kept | {name: tensors[name][places] for name in ours if len(places) == len(classes)}


def fill(model: Native, tensors: Mapping[str, Tensor], outputs: tuple[str, ...] = ()) -> str:
    """Take over the tensors that have a parameter's name and shape; which parts are left fresh, for people.

    Raises:
        ValueError: A tensor of the backbone is missing, other than the norms of its outputs.
    """
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    missing = [name for name in own if name not in fitting]
    for name in missing:
        if name.startswith(BACKBONE) and not name.startswith(f"{BACKBONE}norms."):
            raise ValueError(f"the weights have no {name} of the shape {tuple(own[name].shape)}: choose others.")
    model.load_state_dict(fitting, strict=False)
    parts = dict.fromkeys(_part(name, outputs) for name in missing)
    return ", ".join(part for part in parts if "." not in part or part.split(".")[0] not in parts)


def _part(name: str, outputs: tuple[str, ...]) -> str:
    if name.startswith(BACKBONE):
        return "norms of the maps"
    return next((output.rstrip(".") for output in outputs if name.startswith(output)), name.split(".")[0])


def own_info(recipe: Recipe, classes: Sequence[str], source: str) -> ModelInfo:
    """What the weights of a run will say of themselves; how training held images out too, for who measures them."""
    division = {name: str(getattr(recipe.data, name)) for name in ("val_fraction", "split_seed")}
    return ModelInfo(classes=tuple(classes), preprocessing=recipe.input, source=source, extra=division)


def fresh_config(recipe: Recipe, num_classes: int) -> SwinConfig:
    """The architecture of a completed recipe that starts from scratch."""
    name, frozen = str(recipe.model.name), recipe.model.frozen_stages
    if name in VARIANTS and VARIANTS[name].ndim != recipe.axes:
        raise ValueError(_odd(name, VARIANTS[name], recipe))
    if frozen:
        raise ValueError(f"model.frozen_stages {frozen} would keep random weights: give --weights, or use 0.")
    return make_config(
        name,
        window_size=recipe.model.window_size,
        image_size=recipe.input_size,
        num_classes=num_classes,
        in_channels=recipe.input.channels,
        **recipe.model.overrides,
    )


def check_weights(recipe: Recipe, stored: Native) -> None:
    """ValueError where a recipe asks of weights what they cannot give."""
    options, config = recipe.model, stored.config
    if config.ndim not in (2, recipe.axes):
        raise ValueError(_odd(str(options.weights), config, recipe))
    new = config if config.ndim == recipe.axes else wanted_config(config, asked(recipe, config))
    _check_name(options, new, str(options.weights), "leave model.name out")
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


def asked(recipe: Recipe, has: SwinConfig) -> dict[str, Any]:
    """What is asked of weights: the recipe's window and overrides, and, where they are of images and clips are to be
    seen, what they lack for these: patch and window are then as long as those of the models of videos.

    Raises:
        ValueError: The recipe's patch is one of images.
    """
    options = recipe.model
    wanted = {"window_size": options.window_size, **options.overrides}
    if has.ndim == recipe.axes:
        return wanted
    patch = wanted.setdefault("patch_size", (CLIPS.patch_size[0], *has.patch_size))
    if isinstance(patch, int) or len(patch) != recipe.axes:
        raise ValueError(
            f"model.overrides.patch_size {patch} is a patch of images: give three numbers, frames first, as [2, 4, 4]."
        )
    if wanted["window_size"] is None:
        frames = CLIPS.window_size[0][0]
        wanted["window_size"] = tuple((frames, *window) for window in has.window_size)
    return wanted


def as_stored(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that open weights as they are, whatever they are to take."""
    return {name: value for name, value in overrides.items() if name not in OF_CLIPS}


def _odd(name: str, has: SwinConfig, recipe: Recipe) -> str:
    takes = TAKES[recipe.axes]
    return f"{name} is a model of {TAKES[has.ndim]}, but task {recipe.task} takes {takes}: choose one of {takes}."


def _check_name(options: ModelOptions, has: SwinConfig, where: str, remedy: str) -> None:
    """ValueError where a recipe's name means another architecture than `where` has."""
    if options.name is None:
        return
    fixed = {name: value for name, value in options.overrides.items() if name not in FREE}
    named = make_config(options.name, **fixed).to_dict()
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
    if old.ndim != new.ndim:
        yield f"images -> clips, patch {'x'.join(map(str, new.patch_size))}"
    clips = ClipOptions.from_extra(stored.info.extra)
    if recipe.axes == 3 and clips is not None and str(clips) != str(recipe.video):
        yield f"clips of {clips} -> {recipe.video}"
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

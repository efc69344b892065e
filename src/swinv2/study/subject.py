"""Anybody's weights and an image, as a model's stages and their input."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from swinv2 import checkpoint
from swinv2.checkpoint.settle import MissingWindow
from swinv2.config import Axes, SwinConfig, WindowSpec, spread_image_size
from swinv2.data.image import read_image
from swinv2.data.options import DataOptions
from swinv2.data.sources import open_split
from swinv2.data.transforms import eval_transform
from swinv2.model import Native
from swinv2.model.stages import SwinStages
from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from swinv2.storage import ENCODERS
from swinv2.study.base import Setting, Subject
from swinv2.study.scales import changed
from swinv2.tasks.models import kind_of, load_model

PHOTO = "scikit-learn's photo of a temple"


def load(subject: Subject, window_size: WindowSpec | None = None) -> Native:
    """The model in evaluation mode: a classifier or an encoder from any format, other kinds from files of ours.

    Raises:
        ValueError: The weights cannot be read, do not tell their trained window, or are of a model of videos.
    """
    ours = kind_of(subject.weights) not in (None, *ENCODERS)
    model = _load_ours(subject, window_size) if ours else _load_any(subject, window_size)
    if model.config.ndim != 2:
        raise ValueError(f"{subject.weights} is a model of videos: this study looks at images.")
    return model


def _load_ours(subject: Subject, window_size: WindowSpec | None) -> Native:
    """A model with heads of our own."""
    if subject.key is not None or subject.trained_window_size is not None:
        raise ValueError(
            f"{subject.weights} tells its window and holds one model: leave out --key and --trained-window-size."
        )
    return load_model(subject.weights, window_size=window_size)


def _load_any(subject: Subject, window_size: WindowSpec | None) -> Native:
    """A classifier or an encoder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a decoder that is left out, say
        try:
            return checkpoint.load(
                subject.weights,
                key=subject.key,
                window_size=window_size,
                trained_window_size=subject.trained_window_size,
            )
        except MissingWindow:
            raise ValueError(
                f"{subject.weights} does not tell the window that its position bias was trained at: give it with "
                "--trained-window-size, such as 8 or 16,16,16,8."
            ) from None


def of_run(run: Path) -> Subject:
    """Weights that a training of ours kept: the last, or, where somebody has it validate before its end, the best."""
    return Subject(weights=str(run / "best.safetensors"))


def preprocessing(model: Native | SwinStages, image_size: int | tuple[int, ...] | None = None) -> Preprocessing:
    """What the weights tell of their input; else ImageNet's, at the size that their last trained window spans."""
    known = model.info.preprocessing
    if known is None and model.config.in_channels != len(IMAGENET_MEAN):
        raise ValueError(
            f"the weights do not tell mean and std of their {model.config.in_channels} channels: save them by "
            "swinv2.checkpoint.save with their preprocessing."
        )
    known = known or Preprocessing(size=_own_size(model.config), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return known if image_size is None else replace(known, size=spread_image_size(model.config, image_size))


def _own_size(config: SwinConfig) -> Axes:
    return tuple(w * s for w, s in zip(config.trained_window_size[-1], config.strides[-1], strict=True))


def picture(setting: Setting, photo: bool = False) -> tuple[Image.Image, str]:
    """The image to look at in colour, and what to call it: the user's, or one of the data that a study trains on.

    Args:
        setting: of the study.
        photo: take a photo where the user gives none.
    """
    if setting.image is not None:
        return read_image(setting.image), os.path.basename(setting.image)
    if setting.subject is not None or photo:
        return _photo(), PHOTO
    own = {name.removeprefix("data."): value for name, value in setting.changes.items() if name.startswith("data.")}
    source = open_split(changed(DataOptions(path=setting.data), own), "val")
    return source.image(0), source.name(0).rpartition("/")[2]


@lru_cache(maxsize=1)
def _photo() -> Image.Image:
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


def input_of(image: Image.Image, known: Preprocessing) -> tuple[Tensor, Image.Image]:
    """An image as the model's input ``[1, C, H, W]``, and as people see that part of it."""
    shown = read_image(image, known.channels)
    transform = eval_transform(known)
    plain = eval_transform(replace(known, mean=(0.0,) * known.channels, std=(1.0,) * known.channels))
    pixels = (plain(shown).clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels[0].numpy() if known.channels == 1 else pixels.movedim(0, -1).numpy()
    return transform(shown)[None], Image.fromarray(array)

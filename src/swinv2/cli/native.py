"""What the verbs have in common for models with a head of their own, which come from files of ours alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from swinv2.cli.output import add_output_options
from swinv2.cli.weights import add_weights_options, given
from swinv2.cli.windows import window
from swinv2.train.recipe import parse

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def load_native(options: argparse.Namespace, kind: str) -> Any:
    """The model of a kind that the options of `add_weights_options` ask for; its file tells its classes and its input.

    Raises:
        ValueError: It does not, or the options tell what the file does.
    """
    from swinv2.tasks.models import load_model

    for name in ("key", "trained_window_size", "classes"):
        if getattr(options, name):
            raise ValueError(f"{options.weights} holds a {kind}, which tells its own {name}: leave it out.")
    model = load_model(options.weights, kind, window_size=given(options, "window_size", window))
    if model.info.preprocessing is None or not model.info.classes:
        raise ValueError(f"{options.weights} does not tell its classes and its input: train by swinv2 train.")
    return model


def check_classes(data: Sequence[str], model: Sequence[str], options: Namespace) -> None:
    """ValueError where the data have other classes than the model."""
    if tuple(data) != tuple(model):
        odd = ", ".join(sorted(set(data) ^ set(model))[:5]) or "their order"
        raise ValueError(f"the classes of {options.weights} and of {options.data.path} differ in {odd}.")


def measuring(
    parser: ArgumentParser, arguments: Sequence[str], trained: Mapping[str, str], data: type, test: type
) -> Namespace:
    """The options of `evaluate`: those of the parser, which data, and how they are looked at.

    Args:
        parser: Knows what one kind of model alone has.
        arguments: Of the verb.
        trained: What the weights tell of the data that they were trained on, as JSON; it stands where nothing is given.
        data: Dataclass of the data's options.
        test: Dataclass of how an image is looked at.
    """
    from jsonargparse.typing import PositiveInt

    add_weights_options(parser)
    parser.add_argument("--split", choices=("val", "train", "all"), default="val", help="part of the data")
    parser.add_argument("--batch-size", type=PositiveInt, default=4, help="images at once, if each is looked at once")
    parser.add_argument("--strict", action="store_true", help="the same as --data.strict true")
    add_output_options(parser, ("table", "json"))
    parser.add_class_arguments(data, "data")
    parser.add_class_arguments(test, "test")
    known = {name for name in trained if name.split(".")[0] in {field.name for field in fields(data)}}
    parser.set_defaults({f"data.{name}": json.loads(trained[name]) for name in known})
    options = parse(parser, arguments)
    if options.strict:
        options.data = replace(options.data, strict=True)
    return options

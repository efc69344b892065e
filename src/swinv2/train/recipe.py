"""Recipe files and command lines to `ClassifyRecipe` and back."""

from __future__ import annotations

import glob
import json
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from swinv2.train.options import ClassifyRecipe

if TYPE_CHECKING:  # a machine that only trains needs no jsonargparse
    from jsonargparse import ArgumentParser, Namespace

CHANGEABLE_ON_RESUME = (
    "trainer.epochs",
    "trainer.max_minutes",
    "trainer.accelerator",
    "trainer.devices",
    "data.path",
    "data.workers",
    "data.strict",
)
"""What may change when a run goes on: the rest is in the checkpoint, or would make it another run."""


def parse(parser: ArgumentParser, arguments: Sequence[str], defaults: Path | None = None) -> Namespace:
    """Parse with the options of a YAML file as defaults; what is wrong becomes a ValueError of one sentence."""
    if defaults is not None:
        if not defaults.is_file():
            raise ValueError(f"recipe {defaults} is not a file: give the path of a YAML recipe.")
        parser.default_config_files = [glob.escape(str(defaults))]
    try:
        parsed: Namespace = parser.instantiate(parser.parse_args(list(arguments)))
        return parsed
    except ArgumentError as error:
        where = f"in {defaults}: " if defaults else ""
        raise ValueError(f"{where}{' '.join(str(error).split())}") from None


def load_recipe(path: Path) -> ClassifyRecipe:
    """The recipe in a YAML file."""
    return as_recipe(parse(recipe_parser(), (), path))


def recipe_parser(**settings: Any) -> ArgumentParser:
    """A parser with an option for every field of `ClassifyRecipe`, `--trainer.epochs` for example."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, **settings)
    parser.add_class_arguments(ClassifyRecipe)
    return parser


def as_recipe(parsed: Namespace) -> ClassifyRecipe:
    """The recipe among what a `recipe_parser` has parsed."""
    return ClassifyRecipe(**{field.name: parsed[field.name] for field in fields(ClassifyRecipe)})


def dump_recipe(recipe: ClassifyRecipe) -> str:
    """YAML that `load_recipe` turns back into an equal recipe."""
    text: str = yaml.safe_dump(json.loads(json.dumps(asdict(recipe))), sort_keys=False)
    return text


def changes(old: ClassifyRecipe, new: ClassifyRecipe) -> list[str]:
    """Dotted names of the options that differ."""
    before, after = dict(_flat(asdict(old))), dict(_flat(asdict(new)))
    return [name for name in before | after if before.get(name) != after.get(name)]


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value

"""Recipe files and command lines to `Recipe` and back."""

from __future__ import annotations

import argparse
import glob
import json
import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from swinv2.config import did_you_mean
from swinv2.train.options import Recipe

if TYPE_CHECKING:  # a machine that only trains needs no jsonargparse
    from jsonargparse import ArgumentParser, Namespace

CHANGEABLE_ON_RESUME = (
    "trainer.epochs",
    "trainer.steps",
    "trainer.max_minutes",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.nodes",
    "trainer.save_every",
    "data.path",
    "data.workers",
    "data.strict",
)
"""What may change when a run goes on: the rest is in the checkpoint, or would make it another run."""


BASE = "base"
"""Key of a recipe file that names the file, beside it, whose recipe it changes."""


def parse(parser: ArgumentParser, arguments: Sequence[str], defaults: Path | None = None) -> Namespace:
    """Parse with the options of a YAML file, and of its base, as defaults.

    Raises:
        ValueError: Something is wrong; the message is one sentence, and names the nearest option where one is unknown.
    """
    if defaults is not None:
        parser.default_config_files = [glob.escape(str(path)) for path in with_bases(defaults)]
    try:
        parsed: Namespace = parser.instantiate(parser.parse_args(list(arguments)))
        return parsed
    except ArgumentError as error:
        where = f"in {defaults}: " if defaults else ""
        raise ValueError(f"{where}{' '.join(str(error).split())}{_nearest_flag(str(error))}") from None


def with_bases(path: Path) -> list[Path]:
    """A recipe file after the files that it builds on, the first of them first; later ones override."""
    chain: list[Path] = []
    while path not in chain:
        chain.insert(0, path)
        base = _checked(path).get(BASE)
        if base is None:
            return chain
        path = path.parent / str(base)
    raise ValueError(f"the base of recipe {chain[0]} leads back to {path}: remove it there.")


def _checked(path: Path) -> dict[str, Any]:
    """The content of a recipe file, whose keys are known."""
    if not path.is_file():
        raise ValueError(f"recipe {path} is not a file: give the path of a YAML recipe.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"in {path}: parsing failed, {' '.join(str(error).split())}") from None
    if not isinstance(content, dict | None):
        raise ValueError(f"in {path}: a recipe has lines of KEY: VALUE, not {str(content)[:40]!r}.")
    known = {BASE: None, **_names(Recipe())}
    for key, value in (content or {}).items():
        _check_key(path, key, known)
        within = [f"{key}.{each}" for each in known[key] or ()]
        for name in value if within and isinstance(value, dict) else ():
            _check_key(path, f"{key}.{name}", within)
    return content or {}


def _names(recipe: Recipe) -> dict[str, list[str] | None]:
    """The options of a recipe, and of each group of them."""
    values = {each.name: getattr(recipe, each.name) for each in fields(recipe)}
    return {name: [*vars(value)] if is_dataclass(value) else None for name, value in values.items()}


def _check_key(path: Path, key: str, known: Iterable[str]) -> None:
    if key not in known:
        raise ValueError(f"in {path}: there is no option {key}{did_you_mean(key, known)}.")


def _nearest_flag(message: str) -> str:
    """The nearest option of a recipe, where jsonargparse's message names an unknown one."""
    unknown = re.search(r"nrecognized arguments: --([\w.-]+)", message)
    groups = _names(Recipe()).items()
    known = [*(f"{group}.{name}" for group, names in groups for name in names or ()), "seed", "task"]
    return did_you_mean(unknown[1], known) if unknown else ""


def load_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file."""
    return as_recipe(parse(recipe_parser(), (), path))


def recipe_parser(**settings: Any) -> ArgumentParser:
    """A parser with an option for every field of `Recipe`, `--trainer.epochs` for example."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, **settings)
    parser.add_class_arguments(Recipe)
    parser.add_argument(f"--{BASE}", help=argparse.SUPPRESS)  # of recipe files alone
    return parser


def as_recipe(parsed: Namespace) -> Recipe:
    """The recipe among what a `recipe_parser` has parsed."""
    return Recipe(**{field.name: parsed[field.name] for field in fields(Recipe)})


def dump_recipe(recipe: Recipe) -> str:
    """YAML that `load_recipe` turns back into an equal recipe."""
    text: str = yaml.safe_dump(json.loads(json.dumps(asdict(recipe))), sort_keys=False)
    return text


def changes(old: Recipe, new: Recipe) -> list[str]:
    """Dotted names of the options that differ."""
    before, after = dict(_flat(asdict(old))), dict(_flat(asdict(new)))
    return [name for name in before | after if before.get(name) != after.get(name)]


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value

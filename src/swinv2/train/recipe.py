"""Recipe files and command lines to `Recipe` and back."""

from __future__ import annotations

import argparse
import glob
import json
import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
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


def parse(
    parser: ArgumentParser, arguments: Sequence[str], defaults: Path | None = None, *, instantiate: bool = True
) -> Namespace:
    """Parse with the options of a YAML file, and of its base, as defaults.

    Without `instantiate`, dataclasses are not made, so that options that only make sense with that file pass.

    Raises:
        ValueError: Something is wrong; the message is one sentence, and names the nearest option where one is unknown.
    """
    if defaults is not None:
        parser.default_config_files = [glob.escape(str(path)) for path in with_bases(defaults)]
    try:
        parsed = parser.parse_args(list(arguments))
        return parser.instantiate(parsed) if instantiate else parsed
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
    _check_keys(path, {key: value for key, value in (content or {}).items() if key != BASE}, Recipe())
    return content or {}


def _check_keys(path: Path, content: Mapping[str, Any], group: object, prefix: str = "") -> None:
    """ValueError for a key that is no option of a group, or of a group within it."""
    known = [f"{prefix}{name}" for name in (*vars(group), *(() if prefix else (BASE,)))]
    for key, value in content.items():
        if f"{prefix}{key}" not in known:
            raise ValueError(f"in {path}: there is no option {prefix}{key}{did_you_mean(f'{prefix}{key}', known)}.")
        within = getattr(group, key)
        if is_dataclass(within) and isinstance(value, dict):
            _check_keys(path, value, within, f"{prefix}{key}.")


def _options(group: object, prefix: str = "") -> Iterator[str]:
    """The dotted names of all options of a group."""
    for name, value in vars(group).items():
        yield from _options(value, f"{prefix}{name}.") if is_dataclass(value) else (prefix + name,)


def _nearest_flag(message: str) -> str:
    """The nearest option of a recipe, where jsonargparse's message names an unknown one."""
    unknown = re.search(r"nrecognized arguments: --([\w.-]+)", message)
    return did_you_mean(unknown[1], list(_options(Recipe()))) if unknown else ""


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

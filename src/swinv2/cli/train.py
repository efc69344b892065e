"""`swinv2 train`: from a recipe to a run folder."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from swinv2.train.options import ClassifyRecipe
from swinv2.train.recipe import CHANGEABLE_ON_RESUME, as_recipe, changes, load_recipe, parse, recipe_parser

if TYPE_CHECKING:
    from swinv2.train.folder import RunFolder


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options, recipe, out = _read(arguments)
    from swinv2.train.run import train

    folder = train(recipe, out, resume=options.resume is not None)
    if folder.rows:  # of several processes, only the first has any
        _summarise(folder, recipe)


def _read(arguments: Sequence[str]) -> tuple[Namespace, ClassifyRecipe, Path]:
    parser = recipe_parser(prog="swinv2 train", description="Train a classifier and leave a run folder.")
    parser.add_argument("recipe", type=Path | None, nargs="?", help="YAML file; options given here override it")
    parser.add_argument("--out", type=Path | None, metavar="RUN", help="new run folder (default: runs/NAME)")
    parser.add_argument("--resume", type=Path | None, metavar="RUN", help="run folder whose training goes on")
    options = parse(parser, arguments)
    if options.resume is None:
        if options.recipe is not None:
            options = parse(parser, arguments, options.recipe)
        return options, as_recipe(options), options.out or _free_folder(options)
    if options.recipe is not None or options.out is not None:
        raise ValueError("--resume goes on in its folder with its recipe: leave out --out and the recipe file.")
    saved = options.resume / "config.yaml"
    recipe = as_recipe(parse(parser, arguments, saved))
    fixed = [name for name in changes(load_recipe(saved), recipe) if name not in CHANGEABLE_ON_RESUME]
    if fixed:
        raise ValueError(f"--resume cannot change {fixed[0]}, only {', '.join(CHANGEABLE_ON_RESUME)}: start a new run.")
    return options, recipe, options.resume


def _free_folder(options: Namespace) -> Path:
    name = options.recipe.stem if options.recipe else options.model.name
    suffixes = itertools.chain([""], map("-{}".format, itertools.count(2)))
    return next(path for suffix in suffixes if not (path := Path("runs", name + suffix)).exists())


def _summarise(folder: RunFolder, recipe: ClassifyRecipe) -> None:
    last = folder.rows[-1]["epoch"]
    if last != recipe.trainer.epochs:
        print(f"stopped after epoch {last} of {recipe.trainer.epochs}: trainer.max_minutes is over")
    if folder.skipped.exists():
        print(f"skipped {len(folder.skipped.read_text().splitlines())} files: see {folder.skipped}")
    best = max(folder.rows, key=lambda row: (row["val_top1"] or 0, -(row["val_loss"] or 0)))
    print(f"wrote {folder.path}: {', '.join(folder.contents())}")
    print(f"top-1 {folder.rows[-1]['val_top1'] or 0:.2%} after the last epoch")
    print(f"top-1 {best['val_top1'] or 0:.2%} after epoch {best['epoch']}, the best: {folder.best}")

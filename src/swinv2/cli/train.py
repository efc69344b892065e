"""`swinv2 train`: from a recipe to a run folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from swinv2.train.options import Recipe
from swinv2.train.recipe import CHANGEABLE_ON_RESUME, as_recipe, changes, load_recipe, parse, recipe_parser

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from swinv2.train.folder import RunFolder

CHOSEN = "SWINV2_RUN"
"""Environment variable by which the first of several processes tells the others its run folder."""


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options, recipe, out = _read(arguments)
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from swinv2.train.job import job_of
    from swinv2.train.run import train

    folder = train(recipe, out, resume=options.resume is not None)
    rank_zero_only(_summarise)(folder, recipe, job_of(recipe.task).remarks(folder))


def _read(arguments: Sequence[str]) -> tuple[Namespace, Recipe, Path]:
    parser = recipe_parser(
        prog="swinv2 train",
        description="Train as a recipe says: classify images or videos, detect, segment, or pre-train by SimMIM; leave "
        "a run folder.",
    )
    parser.add_argument("recipe", type=Path | None, nargs="?", help="YAML file; options given here override it")
    parser.add_argument("--out", type=Path | None, metavar="RUN", help="new run folder (default: runs/NAME)")
    parser.add_argument("--resume", type=Path | None, metavar="RUN", help="run folder whose training goes on")
    parser.add_argument("--weights", type=str | None, metavar="FILE|ID", help="the same as --model.weights")
    parser.add_argument("--strict", action="store_true", help="the same as --data.strict true")
    options = parse(parser, arguments, instantiate=False)
    if options.resume is None:
        if options.recipe is None:
            example = "finetune_folder" if options.weights else "folder_nano"
            raise ValueError(f"train needs a recipe: give one, such as recipes/{example}.yaml, or --resume RUN.")
        recipe = _recipe(parse(parser, arguments, options.recipe))
        return options, recipe, options.out or _free_folder(options.recipe.stem)
    if options.recipe is not None or options.out is not None:
        raise ValueError("--resume goes on in its folder with its recipe: leave out --out and the recipe file.")
    if not options.resume.is_dir():
        raise ValueError(f"there is no run folder {options.resume}: give one that `swinv2 train` left.")
    saved = options.resume / "config.yaml"
    recipe = _recipe(parse(parser, arguments, saved))
    fixed = [name for name in changes(load_recipe(saved), recipe) if name not in CHANGEABLE_ON_RESUME]
    if fixed:
        raise ValueError(f"--resume cannot change {fixed[0]}, only {', '.join(CHANGEABLE_ON_RESUME)}: start a new run.")
    return options, recipe, options.resume


def _recipe(options: Namespace) -> Recipe:
    recipe = as_recipe(options)
    if options.weights:
        recipe = replace(recipe, model=replace(recipe.model, weights=options.weights))
    return replace(recipe, data=replace(recipe.data, strict=True)) if options.strict else recipe


def _free_folder(name: str) -> Path:
    """The first free of runs/NAME, runs/NAME-2 and so on; Lightning's further processes take the first one's."""
    if os.environ.get("LOCAL_RANK", "0") != "0" and CHOSEN in os.environ:
        return Path(os.environ[CHOSEN])
    suffixes = itertools.chain([""], map("-{}".format, itertools.count(2)))
    chosen = next(path for suffix in suffixes if not (path := Path("runs", name + suffix)).exists())
    os.environ[CHOSEN] = str(chosen)
    return chosen


def _summarise(folder: RunFolder, recipe: Recipe, remarks: Sequence[str]) -> None:
    length, scores, last = recipe.trainer, folder.scores, folder.rows[-1]
    if last[length.unit] != length.total:
        after = f"{length.unit} {last[length.unit]} of {length.total}"
        print(f"stopped after {after}: trainer.max_minutes is over")
    if folder.skipped.exists():
        print(f"skipped {len(folder.read_skipped())} files: see {folder.skipped}")
    best = max(folder.rows, key=scores.rank_row)
    print(f"wrote {folder.path}: {', '.join(folder.contents())}")
    for remark in remarks:
        print(remark)
    print(f"{scores.show(last)} after the last {length.unit}")
    print(f"{scores.show(best)} after {length.unit} {best[length.unit]}, the best: {folder.best}")

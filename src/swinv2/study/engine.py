"""Runs what is missing of a study, cell by cell, with a report after each; trainings go on where they stopped."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from swinv2.data.image import read_image
from swinv2.files import written_aside
from swinv2.study.base import Cell, Done, Figures, Setting, Study
from swinv2.study.fit import Machine, fitted
from swinv2.study.raw import this_machine
from swinv2.study.report import write_report
from swinv2.study.scales import changed, recipes
from swinv2.tasks.base import Diverged
from swinv2.train.consolidate import read_details
from swinv2.train.folder import RunFolder
from swinv2.train.job import job_of
from swinv2.train.options import Recipe
from swinv2.train.run import train

Say = Callable[[str], None]

RESULT = "figures.json"
CONFIGURATION = "study.yaml"
FILES = "files"
MAY_DIFFER = ("seeds", "trainings", FILES)
"""What may be more, or less, when a study goes on; trainings that stay must be the same, and files unchanged."""

LEAST_VALIDATION = 100
"""Fewer held-out images cannot tell accuracies apart: one standard error of 50% is 5 points."""


def run_study(
    name: str, study: Study, setting: Setting, out: Path, *, say: Say = print, machine: Machine | None = None
) -> list[Done]:
    """Run every cell that is not done, and leave tables, pictures, configuration and report in the folder `out`.

    Args:
        name: of the study.
        study: what to run.
        setting: what is asked of it.
        out: the folder; if it exists, it must be of the same study and setting, which then goes on.
        say: receives a line of what is planned, and those of each training.
        machine: where it runs, for the planner; by default this one.

    Raises:
        ValueError: The setting, the data or the folder cannot be used, or a training does not fit.
        KeyboardInterrupt: Ctrl-C; what is done is kept, and the message says how to go on.
    """
    cells = {cell.name: cell for cell in study.cells(setting)}
    made, data = _prepared(study, setting, cells)
    configuration = _configuration(name, setting, made)
    _check_folder(out, configuration)
    made = _in_parts(made, out, machine, setting.scale, say)
    fresh = not out.exists()
    with written_aside(out / CONFIGURATION) as draft:
        draft.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    done: list[Done] = []
    try:
        for number, (each, cell) in enumerate(cells.items(), start=1):
            new = not _result(out, each).exists()
            if new:
                say(f"cell {number} of {len(cells)}: {each}")
            finished = _finished(cell, made.get(each), study, setting, out / "cells", say)
            done.append(replace(finished, figures={**finished.figures, **data}))
            if new or number == len(cells):
                write_report(name, study, setting, done, out)
    except KeyboardInterrupt:
        left = f"{len(done)} of {len(cells)} cells are done"
        raise KeyboardInterrupt(f"stopped by Ctrl-C, {left}; the same command with --out {out} goes on") from None
    except (ValueError, OSError):
        if fresh and all(path.is_dir() or path.name == CONFIGURATION for path in out.rglob("*")):
            shutil.rmtree(out)  # nothing was reached, and another attempt may be another study
        raise
    return done


def planned(study: Study, setting: Setting) -> str:
    """What a study would train, and whether it fits: nothing runs, but the data are opened."""
    cells = {cell.name: cell for cell in study.cells(setting)}
    made, _ = _prepared(study, setting, cells)
    told = f"{len(cells)} cells, {len(made)} of them trained"
    return f"{told}; {fitted(made.values(), None, setting.scale)[0]}" if made else told


def _prepared(study: Study, setting: Setting, cells: Mapping[str, Cell]) -> tuple[dict[str, Recipe], dict[str, int]]:
    """The recipes of what is trained, and what is told of their data; ValueError for whatever cannot be read."""
    if setting.image is not None:
        read_image(setting.image)
    made = recipes(study, setting, cells)
    return made, _check_data(next(iter(made.values())), study.validates) if made else {}


def _in_parts(
    made: Mapping[str, Recipe], out: Path, machine: Machine | None, scale: str, say: Say
) -> dict[str, Recipe]:
    """Recipes whose batches go in as many parts as fit, by the largest that is not done yet."""
    todo = [recipe for each, recipe in made.items() if not _result(out, each).exists()]
    if not todo:
        return dict(made)
    told, parts = fitted(todo, machine, scale)
    say(told)
    return {each: changed(recipe, {"trainer.accumulate": parts}) for each, recipe in made.items()}


def _check_data(recipe: Recipe, validates: bool) -> dict[str, int]:
    """How many images train and validate, and classes; ValueError where they are too few to train or to compare on."""
    training, validation = job_of(recipe.task).open(recipe)
    least = recipe.trainer.batch_size
    if len(training) < least:
        raise ValueError(
            f"{recipe.data.path} has {len(training)} training images, fewer than the {least} of one step: give more, "
            "or lower --trainer.batch_size."
        )
    if validates and len(validation) < LEAST_VALIDATION:
        raise ValueError(
            f"{recipe.data.path} has {len(validation)} validation images, too few to compare accuracies by: give "
            f"{LEAST_VALIDATION} or more, or hold out more with --data.val_fraction."
        )
    return {"training_images": len(training), "images": len(validation), "classes": len(training.classes)}


def _configuration(name: str, setting: Setting, made: Mapping[str, Recipe]) -> dict[str, Any]:
    """Plain data that say all of a study; YAML's and JSON's reading of them are equal."""
    whole = {
        "study": name,
        **asdict(setting),
        "trainings": {each: asdict(recipe) for each, recipe in made.items()},
        FILES: {path: _state(Path(path)) for path in _looked_at(setting)},
    }
    plain: dict[str, Any] = json.loads(json.dumps(whole, default=str))
    return plain


def _looked_at(setting: Setting) -> list[str]:
    """Whatever lies here of the weights and the image that a study looks at."""
    named = [setting.subject.weights if setting.subject else None, setting.image]
    return [path for path in named if path is not None and Path(path).exists()]


def _state(path: Path) -> list[int]:
    """Bytes, and the last change, of a file or of all that is in a folder."""
    found = [each.stat() for each in (path.rglob("*") if path.is_dir() else [path])]
    return [sum(each.st_size for each in found), max((each.st_mtime_ns for each in found), default=0)]


def _check_folder(out: Path, configuration: Mapping[str, Any]) -> None:
    """ValueError where the folder holds another configuration, but for `MAY_DIFFER`, or something else."""
    path = out / CONFIGURATION
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} exists and is no folder of a study: choose another --out.")
        return
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        before = None
    if not isinstance(before, dict):
        raise ValueError(f"{path} is damaged: choose another --out.")
    known = {FILES: {}, **before}
    other = [name for name, state in configuration[FILES].items() if known[FILES].get(name, state) != state]
    if other:
        raise ValueError(f"{other[0]} has changed since {out} looked at it: choose another --out.")
    differ = [key for key in configuration if key not in MAY_DIFFER and known.get(key) != configuration[key]]
    others = known.get("trainings", {})
    differ += [each for each, made in configuration["trainings"].items() if others.get(each, made) != made]
    if differ:
        raise ValueError(f"{out} holds a study that differs in {differ[0]}: choose another --out.")


def _finished(cell: Cell, recipe: Recipe | None, study: Study, setting: Setting, folder: Path, say: Say) -> Done:
    """The cell with its figures: read, or trained and measured now."""
    own = folder / cell.name
    run = own / "run" if recipe is not None else None
    weights = RunFolder(run).best if run is not None else None
    path = _result(folder.parent, cell.name)
    if not path.exists():
        began = time.perf_counter()
        figures: Figures = _trained(cell, recipe, folder, say) if recipe is not None else {}
        if not figures.get("diverged"):
            figures = {**figures, **study.measure(cell, setting, run)}
        trained = sum(row.get("seconds") or 0.0 for row in RunFolder(run).rows) if run is not None else 0.0
        seconds = max(time.perf_counter() - began, trained)  # this sitting alone, or all that a training took
        figures = {**figures, "seconds": round(seconds, 1), "machine": this_machine()}
        with written_aside(path) as draft:
            draft.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    figures = _read(path)
    return Done(cell, figures, weights if weights is not None and weights.exists() else None)


def _result(out: Path, cell: str) -> Path:
    """Where the figures of a cell are, once it is done."""
    return out / "cells" / cell / RESULT


def _read(path: Path) -> dict[str, Any]:
    """ValueError where the file is damaged."""
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        figures = None
    if not isinstance(figures, dict):
        raise ValueError(f"{path} is damaged: delete it, and the same command measures that cell again.")
    return figures


def _trained(cell: Cell, recipe: Recipe, folder: Path, say: Say) -> dict[str, Any]:
    """Train a cell to its end, or to where it diverges, which is a result as well."""
    out = folder / cell.name / "run"
    if cell.start is not None:
        if _read(_result(folder.parent, cell.start))["diverged"]:
            return {"diverged": f"{cell.start}, from which it starts, diverged", "top1": None, "rows": []}
        weights = str(RunFolder(folder / cell.start / "run").best)
        recipe = replace(recipe, model=replace(recipe.model, name=None, weights=weights, overrides={}))
    diverged = None
    if not _complete(out, recipe):
        try:
            train(recipe, out, resume=out.exists(), say=lambda line: say(f"  {cell.name}: {line}"))
        except Diverged as error:
            diverged = str(error)
            say(f"  {cell.name} diverged: {error}")
    rows = RunFolder(out).rows
    shown = ("epoch", "step", "train_loss", "val_loss", "val_top1")
    return {
        "diverged": diverged,
        "top1": rows[-1].get("val_top1") if rows and not diverged else None,
        "rows": [{name: row[name] for name in shown if _is_number(row.get(name))} for row in rows],
    }


def _complete(out: Path, recipe: Recipe) -> bool:
    """Whether the last row is that of the last step; one of an interrupted round counts less."""
    folder, options = RunFolder(out), recipe.trainer
    if not folder.rows or not folder.last.exists():
        return False
    round_steps = math.ceil(read_details(folder.last)["round"] / options.accumulate)
    return folder.rows[-1]["step"] == options.rounds * round_steps


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def describe(done: Sequence[Done]) -> str:
    """How much there is and how long it took, for people."""
    seconds = sum(float(each.figures.get("seconds", 0)) for each in done)
    return f"{len(done)} cells in {seconds / 60:.1f} minutes"

"""`swinv2 study`: the paper's evidence, run here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swinv2.cli.images import positive
from swinv2.cli.output import remark
from swinv2.cli.windows import size, window
from swinv2.study.base import STUDIES, Setting, Study, Subject, find_study

if TYPE_CHECKING:
    from jsonargparse import Namespace

OF_WEIGHTS = ("key", "trained_window_size", "image_size")


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options, rest = _parser().parse_known_args(arguments)
    changes = _changes(rest)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own remarks; read when torch is loaded
    study = find_study(options.name)
    setting = _setting(options, study, changes)
    out: Path = options.out or Path("runs") / _folder(options)
    if options.plan:
        from swinv2.study.engine import planned

        print(planned(study, setting))
        return
    from swinv2.study.engine import describe, run_study

    done = run_study(options.name, study, setting, out, say=remark)
    for claim in study.report(setting, done).claims:
        print(f"{claim.verdict.word}: {claim.text} ({claim.source}): {claim.verdict.why}")
    print(f"wrote {out}: {describe(done)}, see {out / 'report.html'}")


def _folder(options: argparse.Namespace) -> str:
    """Where a study goes by itself: what it trains on, or looks at, is in its name."""
    told = [options.name, *(["paper"] if options.scale == "paper" else [])]
    told += [Path(given).stem for given in (options.data, options.image) if given]
    if options.weights is not None:
        path = Path(options.weights)
        told.append("-".join(each for each in (path.absolute().parent.name, path.stem) if each))
    return "-".join(["study", *told])


def _setting(options: argparse.Namespace, study: Study, changes: dict[str, Any]) -> Setting:
    """ValueError for options that this study would not heed."""
    trains = bool(study.bases) and options.weights is None
    subject = None if options.weights is None else _subject(options, study, changes)
    for name in OF_WEIGHTS:
        if subject is None and getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for --weights: give some, or leave it out.")
    if options.image is not None and not study.takes_image:
        raise ValueError(f"study {options.name} looks at no single image: leave out --image.")
    if not trains and (changes or options.data is not None or options.seeds):
        raise ValueError(f"study {options.name} trains nothing: leave out --data, --seeds and options of recipes.")
    if options.data == "":
        raise ValueError("--data is empty: say where the images are, or leave it out for scikit-learn's digits.")
    if options.scale == "paper" and trains and options.data is None:
        raise ValueError("--scale paper trains on ImageNet: say where it is with --data.")
    return Setting(
        scale=options.scale,
        data="digits" if options.data is None else options.data,
        seeds=options.seeds,
        changes=changes,
        subject=subject,
        image=options.image,
    )


def _subject(options: argparse.Namespace, study: Study, changes: dict[str, Any]) -> Subject:
    """The weights to look at; ValueError for a study that takes none, and for options of trainings."""
    if not study.takes_weights:
        raise ValueError(f"study {options.name} trains its own models: leave out --weights.")
    given = [name for name in ("data", "seeds") if getattr(options, name) is not None]
    for name in (*given, *changes, *(["scale"] if options.scale == "paper" else [])):
        raise ValueError(f"--{name} is for trainings, and --weights needs none: leave one of them out.")
    return Subject(weights=options.weights, **{name: getattr(options, name) for name in OF_WEIGHTS})


def _changes(rest: Sequence[str]) -> dict[str, Any]:
    """Options of a recipe by their dotted names, with values of their types."""
    if not rest:
        return {}
    from swinv2.train.recipe import parse, recipe_parser

    parsed = parse(recipe_parser(prog="swinv2 study", allow_abbrev=False), rest, instantiate=False)
    names = [argument[2:].partition("=")[0] for argument in rest if argument.startswith("--")]
    return {name: _value(parsed, name) for name in names}


def _value(parsed: Namespace, name: str) -> Any:
    """Of an option, or of a key within one, as model.overrides has them."""
    group, _, key = name.rpartition(".")
    value = parsed[name] if name in parsed else parsed[group][key]
    if isinstance(value, argparse.Namespace):  # a group, whose other options would be the recipe's, not the study's
        raise ValueError(f"--{name} sets a group of options: give each by itself, as --{name}.NAME VALUE.")
    return value


def _parser() -> argparse.ArgumentParser:
    studies = "\n".join(f"  {name:<20} {what}" for name, what in STUDIES.items())
    parser = argparse.ArgumentParser(
        prog="swinv2 study",
        description="Run one of the paper's comparisons here: train what it needs, measure, and say for each claim\n"
        "of the paper whether it is seen. A study that was interrupted goes on with the same command.",
        epilog=f"studies:\n{studies}\n\nAny other option is one of a recipe, for every training of the study, as\n"
        "--trainer.precision bf16-mixed (see swinv2 train --help).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="one of the studies below")
    add("--scale", choices=("laptop", "paper"), default="laptop", help="laptop (default), or the paper's own recipes")
    add("--data", metavar="DATA", help="images to train on, as for swinv2 train (default: scikit-learn's digits)")
    add("--seeds", type=positive, metavar="N", help="trainings of each kind; more may follow (default: 3 on a laptop)")
    add("--out", type=Path, metavar="FOLDER", help="where to leave it (default: runs/study-NAME, and what it is of)")
    add("--plan", action="store_true", help="say what would be trained, and whether it fits, and stop")
    add("--weights", metavar="FILE|ID", help="look at these (activations, bias-maps, memory) instead of training")
    add("--image", metavar="FILE", help="look at this image")
    add("--key", help="which weights to take where the file holds several")
    add("--trained-window-size", type=window, metavar="W", help="window of the first training, if the file is silent")
    add("--image-size", type=size, metavar="S", help="size of the input: 256, or 192x256 (height, width)")
    return parser

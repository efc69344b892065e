"""`swinv2 predict`: the likeliest classes of images."""

from __future__ import annotations

import argparse
import csv
import glob
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swinv2.cli.output import add_output_options, check_targets, emit, remark, table
from swinv2.cli.weights import Classifier, add_weights_options, with_progress

if TYPE_CHECKING:
    from PIL import Image

    from swinv2.data.sources import ImageSource
    from swinv2.tasks.inference import Ranking


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = _parser().parse_args(arguments)
    check_targets([options.output, options.sheet], options.overwrite)
    source = _open(options.images, options.strict)
    classifier = Classifier.load(options)
    rankings, unreadable = _predict(classifier, source, options)
    if not rankings:
        raise ValueError(f"none of the {len(source)} files is an image; the first is {unreadable[0]}")
    named = [(source.name(index), ranking) for index, ranking in rankings.items()]
    emit(FORMATS[options.format](named), options.output)
    if options.sheet:
        _draw_sheet(source, rankings, classifier.preprocessing.channels, options.sheet)
    skipped = [*source.skipped, *unreadable]
    for line in skipped:
        remark(f"skipped {line}")
    remark(f"{len(rankings)} images, {len(skipped)} files skipped")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="swinv2 predict", description="Name what is on images.")
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER|GLOB", help="what to look at")
    add_weights_options(parser)
    parser.add_argument("--top", type=_positive, default=5, metavar="N", help="classes for each image (default: 5)")
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="images at once (default: 32)")
    parser.add_argument(
        "--workers", type=_whole, default=0, metavar="N", help="processes that read images (default: 0)"
    )
    parser.add_argument("--strict", action="store_true", help="stop at a file that is no readable image")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw the images with their classes there")
    add_output_options(parser, tuple(FORMATS))
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _open(patterns: Sequence[str], strict: bool) -> ImageSource:
    """The files that were named, once each and in that order; from folders, only those with an image's extension."""
    from swinv2.data.image import UnreadableImage, is_image_name, left_out
    from swinv2.data.sources.folder import Folder

    named = {os.path.abspath(pattern) for pattern in patterns}
    files: dict[str, str] = {}
    for pattern in patterns:
        for file in _expand(pattern):
            files.setdefault(os.path.abspath(file), file)
    images = [file for place, file in files.items() if is_image_name(file) or place in named]
    skipped = [left_out(file) for place, file in files.items() if not is_image_name(file) and place not in named]
    if strict and skipped:
        raise UnreadableImage(skipped[0])
    if not images:
        raise ValueError(f"{patterns[0]} holds no images: give image files, a folder of them, or a quoted pattern.")
    return Folder(classes=("unknown",), labels=[0] * len(images), skipped=tuple(skipped), paths=images)


def _expand(pattern: str) -> Iterator[str]:
    from swinv2.data.sources.folder import files_below

    found = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise ValueError(f"there is no file, folder or pattern {pattern}: check the path.")
    for path in found:
        yield from files_below(path) if os.path.isdir(path) else [path]


def _predict(
    classifier: Classifier, source: ImageSource, options: argparse.Namespace
) -> tuple[dict[int, Ranking], list[str]]:
    """The ranking of every readable image by its index, and the reasons of the others."""
    from swinv2.tasks.inference import best_device, infer, rank

    loader = classifier.loader(source, batch_size=options.batch_size, workers=options.workers, strict=options.strict)
    rankings: dict[int, Ranking] = {}
    unreadable: list[str] = []
    for batch, logits in with_progress(infer(classifier.model, loader, best_device()), len(loader)):
        unreadable += batch.skipped
        if len(logits):
            rankings |= zip(batch.indices.tolist(), rank(logits, classifier.classes, options.top), strict=True)
    return rankings, unreadable


def _draw_sheet(source: ImageSource, rankings: dict[int, Ranking], channels: int, path: Path) -> None:
    from swinv2.cli.sheet import MOST, sheet
    from swinv2.train.plots import save

    shown = list(rankings)[:MOST]
    save(sheet([(_thumbnail(source.image(index, channels)), rankings[index]) for index in shown]), path)
    remark(f"wrote {path} with {len(shown)} of {len(rankings)} images")


def _thumbnail(image: Image.Image) -> Image.Image:
    from swinv2.cli.sheet import PIXELS

    image.thumbnail((PIXELS, PIXELS))
    return image


def _as_table(named: Sequence[tuple[str, Ranking]]) -> str:
    return table([(name, *(f"{label} {p:.1%}" for label, p in ranking)) for name, ranking in named])


def _as_json(named: Sequence[tuple[str, Ranking]]) -> str:
    entries = [
        {"file": name, "classes": [{"name": label, "probability": p} for label, p in ranking]}
        for name, ranking in named
    ]
    return json.dumps(entries, indent=2)


def _as_csv(named: Sequence[tuple[str, Ranking]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "rank", "class", "probability"))
    for name, ranking in named:
        writer.writerows((name, place, label, p) for place, (label, p) in enumerate(ranking, start=1))
    return text.getvalue()


FORMATS = {"table": _as_table, "json": _as_json, "csv": _as_csv}

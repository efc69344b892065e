"""`swinv2 evaluate` and `swinv2 predict` for classifiers of images."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swinv2.cli.classifier import Classifier
from swinv2.cli.images import add_image_options, open_images, positive
from swinv2.cli.output import add_output_options, check_targets, emit, remark, table
from swinv2.cli.weights import add_weights_options
from swinv2.data.clips import ClipOptions
from swinv2.data.options import DataOptions
from swinv2.train.recipe import parse

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from PIL import Image
    from torch import Tensor

    from swinv2.checkpoint.reading import Raw
    from swinv2.data.sources import ImageSource
    from swinv2.tasks.inference import Ranking
    from swinv2.tasks.metrics import ClassificationMetrics

DIVISION = ("val_fraction", "split_seed")
"""What training tells of how it held images out."""


def evaluate(arguments: Sequence[str], weights: Raw | None = None) -> None:
    """Measure a classifier on labelled images."""
    options = evaluate_options(arguments, {})
    check_targets([options.output, options.confusion], options.overwrite)
    from swinv2.data.sources import open_split

    classifier = Classifier.load(options, weights)
    options = evaluate_options(arguments, classifier.extra)
    report(classifier, open_split(options.data, options.split), options)


def report(classifier: Classifier, source: ImageSource, options: Namespace) -> None:
    """Measure a classifier on a source, and tell or draw what comes of it."""
    from swinv2.data.sources.base import Subset
    from swinv2.train.plots import confusion, save

    labels = _labels(source, classifier, options)
    metrics, unreadable = _measure(classifier, source, labels, options)
    skipped = [*source.skipped, *unreadable]
    results = {
        "weights": options.weights,
        "data": options.data.path,
        "split": options.split,
        **classifier.input,
        f"{classifier.word}s": metrics.images(),
        "skipped": len(skipped),
        **metrics.scalars(),
    }
    emit(json.dumps(results, indent=2) if options.format == "json" else _figures(results), options.output)
    for line in skipped:
        remark(f"skipped {line}")
    if options.split == "val" and isinstance(source, Subset):
        share = f"{options.data.val_fraction:.0%} of {options.data.path} that training holds out"
        remark(f"these are the {share}: --split all measures all of it")
    if options.confusion:
        counts = metrics.matrix()
        if counts is None:
            raise ValueError(
                f"no {options.confusion} was drawn: {len(classifier.classes)} classes are too many to see."
            )
        save(confusion(counts, classifier.classes, f"top-1 {results['top1']:.2%}"), options.confusion)
        remark(f"wrote {options.confusion}")


def evaluate_options(
    arguments: Sequence[str], trained: Mapping[str, str], clip: ClipOptions | None = None
) -> Namespace:
    """The options; what training says of its split stands where none is given.

    Args:
        arguments: Of the verb.
        trained: What the weights tell of their training.
        clip: Of a classifier of videos, where no other clips are asked for.
    """
    from jsonargparse import ArgumentParser
    from jsonargparse.typing import PositiveInt

    parser = ArgumentParser(prog="swinv2 evaluate", description="Measure weights.", exit_on_error=False)
    add_weights_options(parser)
    parser.add_argument("--split", choices=("val", "train", "all"), default="val", help="part of the data")
    parser.add_argument("--batch-size", type=PositiveInt, default=8 if clip else 64, help="images or clips at once")
    parser.add_argument("--strict", action="store_true", help="the same as --data.strict true")
    parser.add_argument("--confusion", type=Path | None, metavar="PNG", help="draw the confusion matrix there")
    add_output_options(parser, ("table", "json"))
    parser.add_class_arguments(DataOptions, "data")
    parser.set_defaults({f"data.{name}": json.loads(trained[name]) for name in DIVISION if name in trained})
    if clip:
        add_clip_options(parser, clip)
    options = parse(parser, arguments)
    if options.strict:
        options.data = replace(options.data, strict=True)
    return options


def add_clip_options(parser: ArgumentParser, clip: ClipOptions) -> None:
    """The options of a recipe's clips, whose defaults are these."""
    parser.add_class_arguments(ClipOptions, "video")
    parser.set_defaults({f"video.{name}": value for name, value in asdict(clip).items()})


def _labels(source: ImageSource, classifier: Classifier, options: Namespace) -> Tensor:
    """The model's label of each of the data's labels, by class name, however its accents are encoded."""
    import torch

    from swinv2.data.classes import find_classes

    places = find_classes(source.classes, classifier.classes, numbered=True)
    if None in places:
        raise ValueError(
            f"{options.weights} does not know class {source.classes[places.index(None)]!r} of {options.data.path}: "
            f"it tells {len(classifier.classes)} classes apart, the first being {classifier.classes[0]!r}."
        )
    return torch.tensor(places)


def _measure(
    classifier: Classifier, source: ImageSource, labels: Tensor, options: Namespace
) -> tuple[ClassificationMetrics, list[str]]:
    from swinv2.tasks.metrics import ClassificationMetrics

    looks = classifier.look(
        source, batch_size=options.batch_size, workers=options.data.workers, strict=options.data.strict
    )
    metrics = ClassificationMetrics(len(classifier.classes))
    skipped: list[str] = []
    for batch, logits in looks:
        skipped += batch.skipped
        if len(logits):
            metrics.update(logits, labels[batch.labels])
    if len(skipped) == len(source):
        raise ValueError(
            f"none of the {len(source)} {classifier.word}s of {options.data.path} can be read: check the path."
        )
    return metrics, skipped


def _figures(results: dict[str, Any]) -> str:
    from swinv2.train.initial import show_windows

    shown = {name: f"{value:.2%}" if name in ("top1", "top5") else value for name, value in results.items()}
    for name in ("image_size", "views"):
        if name in results:
            shown[name] = "x".join(map(str, results[name]))
    shown["window_size"] = show_windows(results["window_size"])
    shown["loss"] = f"{results['loss']:.4f}"
    return table(list(shown.items()))


def predict(arguments: Sequence[str], weights: Raw | None = None) -> None:
    """Name the likeliest classes of images."""
    options = _predict_parser().parse_args(arguments)
    check_targets([options.output, options.sheet], options.overwrite)
    source = open_images(options.images, options.strict)
    classifier = Classifier.load(options, weights)
    rankings = name_classes(classifier, source, options)
    if options.sheet:
        _draw_sheet(source, rankings, classifier.preprocessing.channels, options.sheet)


def _predict_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="swinv2 predict", description="Name what is on images.")
    add_image_options(parser)
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="classes for each image (default: 5)")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw the images with their classes there")
    add_output_options(parser, tuple(FORMATS))
    return parser


def name_classes(classifier: Classifier, source: ImageSource, options: argparse.Namespace) -> dict[int, Ranking]:
    """Write the likeliest classes of every readable file, which are returned by its index, and say what is skipped."""
    from swinv2.tasks.inference import rank

    rankings: dict[int, Ranking] = {}
    skipped = list(source.skipped)
    for batch, logits in classifier.look(
        source, batch_size=options.batch_size, workers=options.workers, strict=options.strict
    ):
        skipped += batch.skipped
        if len(logits):
            rankings |= zip(batch.indices.tolist(), rank(logits, classifier.classes, options.top), strict=True)
    if not rankings:
        first = skipped[len(source.skipped)]
        raise ValueError(f"none of the {len(source)} files is a readable {classifier.word}; the first is {first}")
    named = [(source.name(index), ranking) for index, ranking in rankings.items()]
    emit(FORMATS[options.format](named), options.output)
    for line in skipped:
        remark(f"skipped {line}")
    remark(f"{len(rankings)} {classifier.word}s, {len(skipped)} files skipped")
    return rankings


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

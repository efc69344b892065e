"""`swinv2 evaluate` and `swinv2 predict` for detectors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swinv2.cli.images import add_image_options, open_images, picture_paths
from swinv2.cli.native import check_classes, load_native, measuring
from swinv2.cli.output import add_output_options, check_targets, emit, known, percent, remark, table
from swinv2.cli.weights import given, with_progress
from swinv2.cli.windows import size
from swinv2.config import spread_image_size
from swinv2.data.detection_options import DetectionDataOptions, DetectionTestOptions
from swinv2.train.recipe import parse

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from swinv2.data.sources import ImageSource
    from swinv2.data.sources.coco import CocoSource
    from swinv2.model.detect.native import SwinDetector
    from swinv2.preprocessing import Preprocessing
    from swinv2.tasks.detect.metrics import DetectionMetrics
    from swinv2.tasks.detect.testing import Detections


@dataclass(frozen=True)
class Finder:
    """A detector that knows its classes and how to look at an image."""

    model: SwinDetector
    preprocessing: Preprocessing
    test: DetectionTestOptions

    @classmethod
    def load(cls, options: argparse.Namespace) -> Finder:
        """What the options of `add_weights_options` and of tests say."""
        model = load_native(options, "detector")
        if options.test.max_detections:
            model.raise_limit(options.test.max_detections)
        known = model.info.preprocessing
        asked = given(options, "image_size", size)
        preprocessing = known if asked is None else replace(known, size=spread_image_size(model.config, asked))
        return cls(model, preprocessing, options.test)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names; label 1 is the first."""
        return self.model.info.classes

    @cached_property
    def ready(self) -> SwinDetector:
        """The model on the device where it runs fastest."""
        from swinv2.tasks.inference import best_device

        return self.model.to(best_device()).eval()

    def look(self, source: ImageSource, strict: bool) -> Iterator[tuple[int, Detections | str]]:
        """What is found in each image, by its row in the source; the reason where one cannot be read."""
        from swinv2.data.image import UnreadableImage
        from swinv2.model.detect.suppression import suppress
        from swinv2.tasks.detect.testing import detect

        detector = partial(self.ready, paste=False)
        merging = partial(suppress, config=self.model.settings)
        device = next(self.ready.parameters()).device
        for row in range(len(source)):
            try:
                image = source.image(row, self.preprocessing.channels)
            except UnreadableImage as error:
                if strict:
                    raise
                yield row, str(error)
            else:
                yield row, detect(detector, image, self.test, self.preprocessing, merging, device)

    def look_at_batches(
        self, source: CocoSource, batch_size: int, workers: int, strict: bool
    ) -> Iterator[tuple[int, Detections | str]]:
        """The same in padded batches, once at the model's own size, as validation does."""
        import torch

        from swinv2.data.detection import eval_samples
        from swinv2.data.loading import make_loader
        from swinv2.tasks.detect.testing import originals

        samples = eval_samples(source, self.preprocessing, strict=strict)
        device = next(self.ready.parameters()).device
        for batch in make_loader(samples, batch_size=batch_size, shuffle=False, workers=workers):
            with torch.inference_mode():
                images = [image.to(device) for image in batch.images]
                found = self.ready(images, paste=False) if images else []
            yield from zip(batch.indices.tolist(), originals(found, batch), strict=True)
            yield from ((-1, reason) for reason in batch.skipped)


def evaluate(arguments: Sequence[str]) -> None:
    """Measure a detector on images with known objects."""
    options = _evaluate_options(arguments, {})
    check_targets([options.output, options.predictions], options.overwrite)
    from swinv2.data.sources.coco import open_coco
    from swinv2.tasks.detect.metrics import DetectionMetrics

    finder = Finder.load(options)
    options = _evaluate_options(arguments, finder.model.info.extra)
    source = open_coco(options.data, options.split)
    check_classes(source.classes, finder.classes, options)
    if options.predictions:
        source.check_ids()
    metrics = DetectionMetrics(source, masks=finder.model.settings.masks)
    skipped = [*source.skipped, *_measure(finder, source, metrics, options)]
    results = {
        "weights": options.weights,
        "data": options.data.path,
        "split": options.split,
        "image_size": finder.preprocessing.size,
        "window_size": finder.model.config.window_size,
        "images": metrics.images(),
        "skipped": len(skipped),
        **metrics.scalars(),
        "classes": metrics.by_class(),
    }
    emit(FIGURES[options.format](results), options.output)
    for line in (*source.remarks, *(f"skipped {line}" for line in skipped)):
        remark(line)


def _measure(finder: Finder, source: CocoSource, metrics: DetectionMetrics, options: Namespace) -> list[str]:
    """Count what is found; write it, if asked; the reasons of images that cannot be read."""
    from swinv2.tasks.detect.testing import coco_results

    strict = options.data.strict
    if options.test == DetectionTestOptions():
        looks = finder.look_at_batches(source, options.batch_size, options.data.workers, strict)
    else:
        looks = finder.look(source, strict)
    skipped, entries = [], []
    for row, found in with_progress(looks, len(source)):
        if isinstance(found, str):
            skipped.append(found)
            continue
        metrics.update([row], [found])
        if options.predictions:
            entries += coco_results(found, source.image_id(row), source.category_ids)
    if len(skipped) == len(source):
        raise ValueError(f"none of the {len(source)} images of {options.data.path} can be read: check the path.")
    if options.predictions:
        emit(json.dumps(entries), options.predictions)
    return skipped


def _evaluate_options(arguments: Sequence[str], trained: Mapping[str, str]) -> Namespace:
    """The options; what training says of its split stands where none is given."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="swinv2 evaluate", description="Measure a detector.", exit_on_error=False)
    parser.add_argument(
        "--predictions", type=Path | None, metavar="JSON", help="write all detections there, as COCO has them"
    )
    return measuring(parser, arguments, trained, DetectionDataOptions, DetectionTestOptions)


def _figures_as_table(results: Mapping[str, Any]) -> str:
    from swinv2.train.initial import show_windows

    by_class = results["classes"]
    shown = {name: percent(value) if isinstance(value, float) else value for name, value in results.items()}
    shown["image_size"] = "x".join(map(str, results["image_size"]))
    shown["window_size"] = show_windows(results["window_size"])
    del shown["classes"]
    columns = list(next(iter(by_class.values())))
    rows = [(name, *(percent(figures[column]) for column in columns)) for name, figures in by_class.items()]
    return table(list(shown.items())) + "\n\n" + table([("class", *columns), *rows])


def _figures_as_json(results: Mapping[str, Any]) -> str:
    """What there are no objects of is null."""
    classes = {name: {key: known(value) for key, value in row.items()} for name, row in results["classes"].items()}
    return json.dumps({**{name: known(value) for name, value in results.items()}, "classes": classes}, indent=2)


FIGURES = {"table": _figures_as_table, "json": _figures_as_json}


def predict(arguments: Sequence[str]) -> None:
    """Find objects on images."""
    options = _predict_options(arguments)
    check_targets([options.output], options.overwrite)
    source = open_images(options.images, options.strict)
    finder = Finder.load(options)
    names = [source.name(row) for row in range(len(source))]
    pictures = picture_paths(names, options.pictures, options.overwrite) if options.pictures else []
    named: list[tuple[str, Detections]] = []
    skipped = list(source.skipped)
    for row, found in with_progress(finder.look(source, options.strict), len(source)):
        if isinstance(found, str):
            skipped.append(found)
            continue
        named.append((names[row], _likely(found, options.threshold)))
        if options.pictures:
            _draw(finder, source, row, named[-1][1], pictures[row])
    if not named:
        raise ValueError(f"none of the {len(source)} files is an image; the first is {skipped[0]}")
    emit(FORMATS[options.format](named, finder.classes), options.output)
    for line in skipped:
        remark(f"skipped {line}")
    where = f", pictures in {options.pictures}" if options.pictures else ""
    remark(f"{len(named)} images, {len(skipped)} files skipped{where}")


def _predict_options(arguments: Sequence[str]) -> Namespace:
    from jsonargparse import ArgumentParser

    parser: ArgumentParser = ArgumentParser(prog="swinv2 predict", description="Find objects.", exit_on_error=False)
    add_image_options(parser, batches=False)
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score that is told")
    parser.add_argument(
        "--pictures", type=Path | None, metavar="FOLDER", help="draw each image with what is found there"
    )
    add_output_options(parser, tuple(FORMATS))
    parser.add_class_arguments(DetectionTestOptions, "test")
    return parse(parser, arguments)


def _draw(finder: Finder, source: ImageSource, row: int, found: Detections, path: Path) -> None:
    from swinv2.tasks.detect.drawing import draw_detections
    from swinv2.train.pictures import save

    save(draw_detections(source.image(row), found, finder.classes, threshold=0.0), path)


def _likely(found: Detections, threshold: float) -> Detections:
    kept = found["scores"] >= threshold
    chosen = {name: found[name][kept] for name in ("boxes", "labels", "scores")}
    if "rles" in found:
        chosen["rles"] = [rle for rle, keep in zip(found["rles"], kept.tolist(), strict=True) if keep]
    return chosen


Named = Sequence[tuple[str, "Detections"]]


def _as_table(named: Named, classes: Sequence[str]) -> str:
    rows: list[tuple[object, ...]] = [("image", "class", "score", "left", "top", "right", "bottom")]
    for name, found in named:
        for box, label, score in _objects(found):
            rows.append((name, classes[label - 1], f"{score:.1%}", *(f"{edge:.0f}" for edge in box)))
    return table(rows)


def _as_json(named: Named, classes: Sequence[str]) -> str:
    entries = []
    for name, found in named:
        objects = [{"class": classes[label - 1], "score": score, "box": box} for box, label, score in _objects(found)]
        for entry, rle in zip(objects, found.get("rles", ()), strict=False):
            entry["segmentation"] = rle
        entries.append({"file": name, "objects": objects})
    return json.dumps(entries, indent=2)


def _as_coco(named: Named, classes: Sequence[str]) -> str:
    """COCO's layout with the images numbered in their order: what other tools read."""
    from swinv2.tasks.detect.testing import coco_results

    images = [{"id": number, "file_name": name} for number, (name, _) in enumerate(named, start=1)]
    ids = tuple(range(1, len(classes) + 1))
    entries = [entry for number, (_, found) in enumerate(named, start=1) for entry in coco_results(found, number, ids)]
    annotations = [{"id": number, **entry} for number, entry in enumerate(entries, start=1)]
    categories = [{"id": number, "name": name} for number, name in zip(ids, classes, strict=True)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def _objects(found: Detections) -> Iterator[tuple[list[float], int, float]]:
    return zip(found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True)


FORMATS = {"table": _as_table, "json": _as_json, "coco": _as_coco}

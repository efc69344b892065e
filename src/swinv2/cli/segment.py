"""`swinv2 evaluate` and `swinv2 predict` for segmenters."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swinv2.cli.images import add_image_options, open_images, picture_paths
from swinv2.cli.native import check_classes, load_native, measuring
from swinv2.cli.output import add_output_options, check_targets, emit, known, percent, remark, table
from swinv2.cli.weights import given, with_progress
from swinv2.cli.windows import size
from swinv2.data.segmentation_options import SegmentationDataOptions
from swinv2.tasks.segment.options import InferenceOptions
from swinv2.train.recipe import parse

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from PIL import Image
    from torch import Tensor

    from swinv2.data.segmentation import SegmentationBatch
    from swinv2.data.segmentation_transforms import EvalTransform
    from swinv2.data.sources import ImageSource
    from swinv2.data.sources.label_maps import LabelMaps
    from swinv2.model.upernet import Segmenter
    from swinv2.tasks.segment.metrics import SegmentationMetrics

Shares = dict[str, float]
"""Share of an image's pixels that each class has, the largest first; without those that have none."""


@dataclass(frozen=True)
class Labeller:
    """A segmenter that knows its classes and how to look at an image.

    Args:
        model: See `Segmenter`.
        resize: Shorter side of the images, in pixels; None keeps their size.
        test: See `InferenceOptions`.
    """

    model: Segmenter
    resize: int | None
    test: InferenceOptions

    @classmethod
    def load(cls, options: argparse.Namespace) -> Labeller:
        """What the options of `add_weights_options` and of tests say; the size is that of validation by default."""
        model = load_native(options, "segmenter")
        side = given(options, "image_size", size)
        if isinstance(side, tuple):
            raise ValueError(
                f"--image-size {options.image_size} would change the aspect of images: give their shorter side, as "
                f"--image-size {min(side)}."
            )
        return cls(model, side or json.loads(model.info.extra.get("layout.resize", "null")), options.test)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.model.info.classes

    @cached_property
    def transform(self) -> EvalTransform:
        """From an image to the model's input."""
        from swinv2.data.segmentation_transforms import EvalTransform

        assert self.model.info.preprocessing is not None  # `load_native` has seen to it
        return EvalTransform(self.model.info.preprocessing, self.resize, self.test.scales)

    @property
    def channels(self) -> int:
        """Of an image."""
        return self.transform.preprocessing.channels

    def look(self, source: ImageSource, strict: bool) -> Iterator[tuple[int, Image.Image, Tensor] | str]:
        """Row, image and class of each pixel of every image; the reason where one cannot be read."""
        from swinv2.data.image import UnreadableImage
        from swinv2.tasks.inference import best_device
        from swinv2.tasks.segment.inference import predict_image

        model = self.model.to(best_device()).eval()
        for row in range(len(source)):
            try:
                image = source.image(row, self.channels)
            except UnreadableImage as error:
                if strict:
                    raise
                yield str(error)
            else:
                yield row, image, predict_image(model, image, self.transform, self.test)


def evaluate(arguments: Sequence[str]) -> None:
    """Measure a segmenter on images with label maps."""
    options = _evaluate_options(arguments, {})
    check_targets([options.output], options.overwrite)
    from swinv2.data.sources.label_maps import open_label_maps

    labeller = Labeller.load(options)
    options = _evaluate_options(arguments, labeller.model.info.extra)
    if options.image_size is None:
        labeller = replace(labeller, resize=options.data.layout.resize)
    source = open_label_maps(options.data, options.split)
    check_classes(source.classes, labeller.classes, options)
    metrics, unreadable = _measure(labeller, source, options)
    skipped = [*source.skipped, *unreadable]
    results = {
        "weights": options.weights,
        "data": options.data.path,
        "split": options.split,
        "resize": labeller.resize,
        "window_size": labeller.model.config.window_size,
        "images": metrics.images(),
        "skipped": len(skipped),
        **metrics.scalars(),
    }
    emit(FIGURES[options.format](results, metrics), options.output)
    for line in skipped:
        remark(f"skipped {line}")
    if options.pictures:
        remark(f"pictures in {options.pictures}")


def _evaluate_options(arguments: Sequence[str], trained: Mapping[str, str]) -> Namespace:
    """The options; what training says of its data stands where none is given."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="swinv2 evaluate", description="Measure a segmenter.", exit_on_error=False)
    parser.add_argument(
        "--pictures", type=Path | None, metavar="FOLDER", help="draw each image with its label map and what is seen"
    )
    return measuring(parser, arguments, trained, SegmentationDataOptions, InferenceOptions)


def _measure(labeller: Labeller, source: LabelMaps, options: Namespace) -> tuple[SegmentationMetrics, list[str]]:
    """Count what is seen; draw it, if asked; the reasons of images that cannot be read."""
    import torch

    from swinv2.data.loading import make_loader
    from swinv2.data.segmentation import segmentation_samples
    from swinv2.tasks.inference import best_device
    from swinv2.tasks.segment.inference import infer
    from swinv2.tasks.segment.metrics import SegmentationMetrics

    pictures = picture_paths(source.images, options.pictures, options.overwrite) if options.pictures else []
    samples = segmentation_samples(source, labeller.transform, labeller.channels, options.data.strict)
    loader = make_loader(samples, batch_size=options.batch_size, shuffle=False, workers=options.data.workers)
    device, skipped = best_device(), list[str]()
    metrics = SegmentationMetrics(labeller.classes, source.ignore_index).to(device)
    batches = _noting(with_progress(loader, len(loader)), skipped)
    for part, probabilities in infer(labeller.model, batches, device, options.test):
        likely = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
        metrics.update(likely, part.labels.to(device))
        if pictures:
            for row, seen in zip(part.indices.tolist(), probabilities.argmax(1).cpu(), strict=True):
                image, labels = source.read(row, labeller.channels)
                _draw(image, {"label map": labels, "prediction": seen}, labeller, pictures[row])
    if len(skipped) == len(source):
        raise ValueError(f"none of the {len(source)} images of {options.data.path} can be read: check the path.")
    return metrics, skipped


def _noting(batches: Iterable[SegmentationBatch], skipped: list[str]) -> Iterator[SegmentationBatch]:
    """The batches, once what they skipped is noted."""
    for batch in batches:
        skipped += batch.skipped
        yield batch


def _draw(image: Image.Image, maps: Mapping[str, Any], labeller: Labeller, path: Path) -> None:
    from swinv2.tasks.segment.pictures import picture
    from swinv2.train.pictures import save

    save(picture(image, maps, labeller.classes), path)


def _figures_as_table(results: Mapping[str, Any], metrics: SegmentationMetrics) -> str:
    from swinv2.tasks.segment.metrics import table as by_class
    from swinv2.train.initial import show_windows

    shown = {name: percent(value) if isinstance(value, float) else value for name, value in results.items()}
    shown |= {"loss": f"{results['loss']:.4f}", "resize": results["resize"] or "none"}
    shown["window_size"] = show_windows(results["window_size"])
    return table(list(shown.items())) + "\n\n" + by_class(metrics.per_class())


def _figures_as_json(results: Mapping[str, Any], metrics: SegmentationMetrics) -> str:
    """What a class has not is null."""
    rows = {score.name: score._asdict() for score in metrics.per_class()}
    classes = {name: {key: known(value) for key, value in row.items() if key != "name"} for name, row in rows.items()}
    return json.dumps({**{name: known(value) for name, value in results.items()}, "classes": classes}, indent=2)


FIGURES = {"table": _figures_as_table, "json": _figures_as_json}


def predict(arguments: Sequence[str]) -> None:
    """Tell the class of each pixel of images."""
    options = _predict_options(arguments)
    check_targets([options.output], options.overwrite)
    source = open_images(options.images, options.strict)
    labeller = Labeller.load(options)
    names = [source.name(row) for row in range(len(source))]
    maps, pictures = (
        picture_paths(names, folder, options.overwrite) if folder else [] for folder in (options.maps, options.pictures)
    )
    found: list[tuple[str, Shares]] = []
    skipped = list(source.skipped)
    for seen in with_progress(labeller.look(source, options.strict), len(source)):
        if isinstance(seen, str):
            skipped.append(seen)
            continue
        row, image, labels = seen
        found.append((names[row], shares(labels, labeller.classes)))
        if maps:
            _save_map(labels, labeller, maps[row], options.reduce_zero_label)
        if pictures:
            _draw(image, {"prediction": labels}, labeller, pictures[row])
    if not found:
        raise ValueError(f"none of the {len(source)} files is an image; the first is {skipped[0]}")
    emit(FORMATS[options.format](found), options.output)
    for line in skipped:
        remark(f"skipped {line}")
    where = (f", {name} in {folder}" for name, folder in options.items() if name in ("maps", "pictures") and folder)
    remark(f"{len(found)} images, {len(skipped)} files skipped{''.join(where)}")


def _predict_options(arguments: Sequence[str]) -> Namespace:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="swinv2 predict", description="Tell the class of each pixel.", exit_on_error=False)
    add_image_options(parser, batches=False)
    add = parser.add_argument
    add("--maps", type=Path | None, metavar="FOLDER", help="write label maps there, in the classes' colours")
    add("--pictures", type=Path | None, metavar="FOLDER", help="draw each image with its classes and a legend there")
    add("--reduce-zero-label", action="store_true", help="the first class is 1 in label maps, as ADE20K has it")
    add_output_options(parser, tuple(FORMATS))
    parser.add_class_arguments(InferenceOptions, "test")
    options = parse(parser, arguments)
    if options.maps and options.pictures and options.maps.resolve() == options.pictures.resolve():
        raise ValueError(
            f"--maps and --pictures are both {options.maps}, and their files have the same names: choose two."
        )
    return options


def shares(labels: Tensor, classes: Sequence[str]) -> Shares:
    """How much of a label map ``[H, W]`` the classes have."""
    counts = labels.flatten().bincount(minlength=len(classes))
    order = counts.argsort(descending=True, stable=True).tolist()
    return {classes[label]: int(counts[label]) / labels.numel() for label in order if counts[label]}


def _save_map(labels: Tensor, labeller: Labeller, path: Path, reduce_zero_label: bool) -> None:
    from swinv2.tasks.segment.pictures import palette, save_label_map

    save_label_map(labels, path, palette(len(labeller.classes)), reduce_zero_label=reduce_zero_label)


Found = Sequence[tuple[str, Shares]]


def _as_table(found: Found) -> str:
    rows = [(name, label, f"{share:.1%}") for name, classes in found for label, share in classes.items()]
    return table([("image", "class", "share"), *rows])


def _as_json(found: Found) -> str:
    return json.dumps([{"file": name, "classes": classes} for name, classes in found], indent=2)


def _as_csv(found: Found) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "class", "share"))
    writer.writerows((name, label, share) for name, classes in found for label, share in classes.items())
    return text.getvalue()


FORMATS = {"table": _as_table, "json": _as_json, "csv": _as_csv}

"""What a run of semantic segmentation has of its own: label maps, UperNet, mean IoU, and pictures of what it sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from PIL import Image
from torch import nn

from swinv2.config import SwinConfig
from swinv2.data.image import UnreadableImage
from swinv2.data.loading import Samples
from swinv2.data.segmentation import segmentation_samples
from swinv2.data.segmentation_options import LabelMapLayout, SegmentationDataOptions
from swinv2.data.segmentation_transforms import (
    Box,
    EvalTransform,
    JointTransform,
    TrainTransform,
    cropped,
    cropped_labels,
    resized_size,
)
from swinv2.data.sources.label_maps import LabelMap, LabelMaps, open_label_maps
from swinv2.model.upernet import Segmenter
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.segment.inference import predict_image
from swinv2.tasks.segment.pictures import picture
from swinv2.tasks.segment.task import SegmentationTask
from swinv2.train.engine_options import TrainerOptions
from swinv2.train.folder import RunFolder
from swinv2.train.images import enumerated, shared_data
from swinv2.train.initial import Initial, headed
from swinv2.train.job import Draw, Job
from swinv2.train.options import Recipe
from swinv2.train.pictures import montage, save, spread
from swinv2.train.scores import Metric, Panel, Scores
from swinv2.train.strategies import processes

PICTURE = "segmentation.png"
SHOWN_IMAGES = 4
"""So many validation images are drawn, evenly spread over all of them."""
SHOWN_SIDE = 320
"""Their shorter side, in pixels, at most."""

OUTPUTS = ("head.classifier.", "auxiliary_head.classifier.")
"""Parameters that have a row for each class."""

RECORDED = tuple(name for name in vars(LabelMapLayout()) if name != "classes")
"""What weights tell of the data's layout, so that they are measured and used as they were validated."""

MIOU, MACC, AACC = (
    Metric(name=name, label=label) for name, label in (("miou", "mIoU"), ("macc", "mAcc"), ("aacc", "aAcc"))
)
SCORES = Scores(
    metrics=(MIOU, MACC, AACC),
    best=MIOU,
    panels=(
        Panel(
            unit="cross entropy", lines={"train_loss": "training, with the auxiliary head's", "val_loss": "validation"}
        ),
        Panel(unit="%", lines={each.column: each.label for each in (MIOU, MACC, AACC)}, scale=100),
    ),
)


class SegmentJob(Job[LabelMaps]):
    """Semantic segmentation of images."""

    scores = SCORES

    def open(self, recipe: Recipe) -> tuple[LabelMaps, LabelMaps]:
        """See `Job`."""
        options = SegmentationDataOptions(**shared_data(recipe), layout=recipe.segment.layout)
        return open_label_maps(options, "train"), open_label_maps(options, "val")

    def initial(self, recipe: Recipe, training: LabelMaps, last: Path | None) -> Initial:
        """See `initial`."""
        return initial(recipe, training.classes, last)

    def samples(self, recipe: Recipe, source: LabelMaps, *, augmented: bool) -> Samples:
        """See `Job`."""
        resize = recipe.segment.layout.resize
        transform: JointTransform = EvalTransform(recipe.input, resize)
        if augmented:
            transform = TrainTransform(recipe.segment.augment, recipe.input, source.ignore_index, resize)
        return segmentation_samples(source, transform, recipe.input.channels, recipe.data.strict)

    def task(self, start: Initial, training: LabelMaps, validation: LabelMaps, optimise: Optimise) -> Task:
        """See `Job`."""
        assert isinstance(start.model, Segmenter)
        if several_gpus(start.recipe.trainer):
            nn.SyncBatchNorm.convert_sync_batchnorm(start.model)
        loss = start.recipe.segment.loss
        return SegmentationTask(start.model, training.classes, training.ignore_index, optimise=optimise, loss=loss)

    def describe(self, training: LabelMaps, validation: LabelMaps) -> str:
        """Classes and images."""
        return f"{enumerated(training.classes)}, {super().describe(training, validation)}"

    def drawing(self, start: Initial, folder: RunFolder, validation: LabelMaps) -> Draw:
        """See `draw_examples`."""
        return partial(draw_examples, start.recipe, folder.path / PICTURE, validation)


def initial(recipe: Recipe, classes: Sequence[str], last: Path | None = None) -> Initial:
    """The segmenter of a recipe for these classes; see `headed`. Its file will tell the layout of the data."""
    start = headed(recipe, classes, last, Segmenter.kind, _segmenter, OUTPUTS)
    if last is None:
        layout = {f"layout.{name}": json.dumps(getattr(recipe.segment.layout, name)) for name in RECORDED}
        info = start.model.info
        start.model.info = replace(info, extra={**info.extra, **layout})
    return start


def _segmenter(recipe: Recipe, config: SwinConfig) -> Segmenter:
    return Segmenter(config, **recipe.segment.heads)


def several_gpus(options: TrainerOptions) -> bool:
    """Whether several GPUs train, each on so few crops that the statistics of BatchNorm are taken of all together."""
    on_gpu = options.accelerator == "gpu" or (options.accelerator == "auto" and torch.cuda.is_available())
    return on_gpu and processes(options) > 1


def draw_examples(recipe: Recipe, path: Path, validation: LabelMaps, task: Task, reached: str) -> None:
    """Draw what the model sees on some validation images; all processes do, since it may be shared among them."""
    transform = EvalTransform(recipe.input, recipe.segment.layout.resize)
    pictures = []
    for row in spread(SHOWN_IMAGES, len(validation)):
        try:
            image, labels = validation.read(row, recipe.input.channels)
        except UnreadableImage:  # it is listed with the skipped ones
            continue
        prediction = predict_image(task.model, image, transform).numpy()
        pictures.append(_example(image, {"label map": labels, "prediction": prediction}, validation.classes))
    if pictures:
        rank_zero_only(save)(montage(pictures), path)


def _example(image: Image.Image, maps: dict[str, LabelMap], classes: Sequence[str]) -> Image.Image:
    size = resized_size(image, min(SHOWN_SIDE, *image.size))
    box = Box(0, 0, *size)
    small = {title: cropped_labels(labels, size, box) for title, labels in maps.items()}
    return picture(cropped(image, size, box, "bilinear"), small, classes)

"""What a run of detection has of its own: COCO data, a detector, average precision, and pictures of what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from swinv2.config import SwinConfig
from swinv2.data.detection import eval_samples, train_samples
from swinv2.data.detection_options import DetectionDataOptions, DetectionTestOptions
from swinv2.data.loading import Samples
from swinv2.data.options import Split
from swinv2.data.sources.coco import CocoSource, open_coco
from swinv2.model.detect import detector_config
from swinv2.model.detect.native import SwinDetector
from swinv2.model.detect.suppression import suppress
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.detect.drawing import draw_detections
from swinv2.tasks.detect.task import DetectionTask
from swinv2.tasks.detect.testing import detect
from swinv2.train.folder import RunFolder
from swinv2.train.images import enumerated, shared_data
from swinv2.train.initial import Initial, headed
from swinv2.train.job import Draw, Job
from swinv2.train.options import Recipe
from swinv2.train.pictures import montage, save, spread
from swinv2.train.scores import Metric, Panel, Scores

PICTURE = "detections.png"
SHOWN_IMAGES = 4
"""So many validation images are drawn, evenly spread over all of them."""

METRICS = tuple(
    Metric(name=f"{kind}_{figure}", label=f"{kind} {label}")
    for kind in ("box", "mask")
    for figure, label in (("ap", "AP"), ("ap50", "AP50"), ("ap75", "AP75"))
)
SCORES = Scores(
    metrics=METRICS,
    best=METRICS[0],
    panels=(
        Panel(unit="sum of losses", lines={"train_loss": "training"}),
        Panel(
            unit="average precision, %",
            lines={each.column: each.label for each in METRICS if not each.name.endswith("75")},
            scale=100,
        ),
    ),
)


class DetectJob(Job[CocoSource]):
    """Detection and instance segmentation of objects on images."""

    scores = SCORES

    def open(self, recipe: Recipe) -> tuple[CocoSource, CocoSource]:
        """See `Job`."""
        training, validation = (open_coco(data_options(recipe), split) for split in SPLITS)
        return training, validation

    def initial(self, recipe: Recipe, training: CocoSource, last: Path | None) -> Initial:
        """See `initial`."""
        return initial(recipe, training.classes, last)

    def samples(self, recipe: Recipe, source: CocoSource, *, augmented: bool) -> Samples:
        """See `Job`."""
        strict = recipe.data.strict
        if not augmented:
            return eval_samples(source, recipe.input, strict=strict)
        heads = detector_config(recipe.detect.detector, **recipe.detect.heads)
        wanted: dict[str, Any] = {"masks": heads.masks, "semantic": heads.semantic_classes}
        return train_samples(source, recipe.detect.augment, recipe.input, **wanted, strict=strict)

    def task(self, start: Initial, training: CocoSource, validation: CocoSource, optimise: Optimise) -> Task:
        """See `Job`."""
        assert isinstance(start.model, SwinDetector)
        augment = start.recipe.detect.augment
        least = augment.jitter_size if augment.resize == "jitter" else (1, 1)
        return DetectionTask(start.model, training.classes, validation, least=least, optimise=optimise)

    def describe(self, training: CocoSource, validation: CocoSource) -> str:
        """Classes, images, objects, and what was mended in the data."""
        objects = f"{sum(training.labels)} + {sum(validation.labels)} objects"
        whole = f"{enumerated(training.classes)}, {super().describe(training, validation)} with {objects}"
        return "; ".join([whole, *dict.fromkeys((*training.remarks, *validation.remarks))])

    def drawing(self, start: Initial, folder: RunFolder, validation: CocoSource) -> Draw:
        """See `draw_examples`."""
        return partial(draw_examples, start.recipe, folder.path / PICTURE, validation)


SPLITS: tuple[Split, Split] = ("train", "val")


def data_options(recipe: Recipe) -> DetectionDataOptions:
    """Where a recipe's images and objects are."""
    return DetectionDataOptions(**shared_data(recipe), layout=recipe.detect.layout)


def initial(recipe: Recipe, classes: Sequence[str], last: Path | None = None) -> Initial:
    """The detector of a recipe for these classes; see `headed`."""
    return headed(recipe, classes, last, SwinDetector.kind, _detector)


def _detector(recipe: Recipe, config: SwinConfig) -> SwinDetector:
    heads = detector_config(recipe.detect.detector, **recipe.detect.heads).to_dict()
    return SwinDetector(config, **heads)


def draw_examples(recipe: Recipe, path: Path, validation: CocoSource, task: Task, reached: str) -> None:
    """Draw what the detector finds on some validation images; all processes do, since it may be shared among them."""
    model = task.model
    pictures = []
    for row in spread(SHOWN_IMAGES, len(validation)):
        image = validation.image(row, recipe.input.channels)
        found = detect(
            partial(model, paste=False),
            image,
            DetectionTestOptions(),
            recipe.input,
            partial(suppress, config=model.settings),
            task.device,
        )
        pictures.append(draw_detections(image, found, validation.classes))
    rank_zero_only(save)(montage(pictures, columns=2), path)

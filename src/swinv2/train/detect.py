"""What a run of detection has of its own: COCO data, a detector, average precision, and pictures of what it finds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from PIL import Image
from torch import Tensor

from swinv2.checkpoint import load
from swinv2.config import SwinConfig
from swinv2.data.detection import eval_samples, train_samples
from swinv2.data.detection_options import DetectionDataOptions, DetectionTestOptions
from swinv2.data.loading import Samples
from swinv2.data.options import Split
from swinv2.data.sources.coco import CocoSource, open_coco
from swinv2.files import written_aside
from swinv2.model.detect import detector_config
from swinv2.model.detect.native import SwinDetector
from swinv2.model.detect.suppression import suppress
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.detect.drawing import draw_detections
from swinv2.tasks.detect.task import DetectionTask
from swinv2.tasks.detect.testing import detect
from swinv2.tasks.models import BACKBONE, kind_of, load_model
from swinv2.train.folder import RunFolder
from swinv2.train.images import SHOWN_CLASSES
from swinv2.train.initial import (
    Initial,
    check_weights,
    described,
    fresh_config,
    own_info,
    prepared,
    what_changes,
)
from swinv2.train.job import Draw, Job
from swinv2.train.options import Recipe
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
        masks = detector_config(recipe.detect.detector, **recipe.detect.heads).masks
        return train_samples(source, recipe.detect.augment, recipe.input, masks=masks, strict=strict)

    def task(self, start: Initial, training: CocoSource, validation: CocoSource, optimise: Optimise) -> Task:
        """See `Job`."""
        assert isinstance(start.model, SwinDetector)
        return DetectionTask(start.model, training.classes, validation, optimise=optimise)

    def describe(self, training: CocoSource, validation: CocoSource) -> str:
        """Classes, images, objects, and what was mended in the data."""
        classes = training.classes
        shown = ", ".join(classes[:SHOWN_CLASSES]) + (", ..." if len(classes) > SHOWN_CLASSES else "")
        objects = f"{sum(training.labels)} + {sum(validation.labels)} objects"
        whole = f"{len(classes)} classes ({shown}), {super().describe(training, validation)} with {objects}"
        return "; ".join([whole, *dict.fromkeys((*training.remarks, *validation.remarks))])

    def drawing(self, start: Initial, folder: RunFolder, validation: CocoSource) -> Draw:
        """See `draw_examples`."""
        return partial(draw_examples, start.recipe, folder.path / PICTURE, validation)


SPLITS: tuple[Split, Split] = ("train", "val")


def data_options(recipe: Recipe) -> DetectionDataOptions:
    """Where a recipe's images and objects are."""
    data = recipe.data
    shared = {name: getattr(data, name) for name in ("path", "val_fraction", "split_seed", "workers", "strict")}
    return DetectionDataOptions(**shared, layout=recipe.detect.layout)


def initial(recipe: Recipe, classes: Sequence[str], last: Path | None = None) -> Initial:
    """The detector of a recipe for these classes, with its stages frozen.

    Args:
        recipe: What to train.
        classes: Names of the data's classes, in order.
        last: Checkpoint of a run that goes on: it tells the architecture.

    Raises:
        ValueError: The recipe does not make a detector, or the weights do not fit it; the message says why.
    """
    if last is not None:
        return prepared(described(last, recipe, SwinDetector.kind))
    if recipe.model.weights:
        return prepared(_from_weights(recipe, recipe.model.weights, classes))
    recipe = recipe.completed()
    model = _detector(recipe, fresh_config(recipe, len(classes)))
    model.info = own_info(recipe, classes, model.info.source)
    return prepared(Initial(model, recipe))


def _detector(recipe: Recipe, config: SwinConfig) -> SwinDetector:
    heads = detector_config(recipe.detect.detector, **recipe.detect.heads).to_dict()
    return SwinDetector(config, **heads)


def _from_weights(recipe: Recipe, weights: str, classes: Sequence[str]) -> Initial:
    """Around somebody's backbone, or a whole detector, of which every tensor that fits is kept."""
    options = recipe.model
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if kind_of(weights) == SwinDetector.kind:
            stored = load_model(weights, SwinDetector.kind)
            model = load_model(weights, SwinDetector.kind, window_size=options.window_size)
            config, tensors = replace(model.config, **options.overrides), model.state_dict()
        else:
            stored = load(weights, dtype="keep", key=options.weights_key, **options.overrides)
            whole = recipe.completed(stored.info.preprocessing)
            model = load(
                weights,
                key=options.weights_key,
                window_size=options.window_size,
                in_channels=whole.input.channels,
                **options.overrides,
            )
            config = model.config
            tensors = {f"{BACKBONE}{name}": tensor for name, tensor in model.state_dict().items()}
    check_weights(recipe, stored)
    whole = recipe.completed(stored.info.preprocessing)
    detector = _detector(whole, replace(config, num_classes=len(classes)))
    fresh = fill(detector, tensors)
    detector.info = own_info(whole, classes, stored.info.source)
    told = "; ".join(
        [f"new: {fresh}" if fresh else "heads kept", *what_changes(stored, detector.config, recipe, whole)]
    )
    warned = (f"note: {warning.message}" for warning in caught)
    return Initial(detector, whole, (f"starting from {weights} ({stored.info.source}): {told}", *warned))


def fill(model: SwinDetector, tensors: Mapping[str, Tensor]) -> str:
    """Take over the tensors that have a parameter's name and shape; which parts are left fresh, for people.

    Raises:
        ValueError: A tensor of the backbone is missing, other than the norms of its outputs.
    """
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    missing = [name for name in own if name not in fitting]
    for name in missing:
        if name.startswith(BACKBONE) and not name.startswith(f"{BACKBONE}norms."):
            raise ValueError(f"the weights have no {name} of the shape {tuple(own[name].shape)}: choose others.")
    model.load_state_dict(fitting, strict=False)
    return ", ".join(dict.fromkeys(_part(name) for name in missing))


def _part(name: str) -> str:
    return "norms of the maps" if name.startswith(BACKBONE) else name.split(".")[0]


def draw_examples(recipe: Recipe, path: Path, validation: CocoSource, task: Task, reached: str) -> None:
    """Draw what the detector finds on some validation images; all processes do, since it may be shared among them."""
    model = task.model
    count = min(SHOWN_IMAGES, len(validation))
    pictures = []
    for number in range(count):
        image = validation.image(number * len(validation) // count, recipe.input.channels)
        found = detect(
            model,
            image,
            DetectionTestOptions(),
            recipe.input,
            partial(suppress, config=model.settings),
            task.device,
        )
        pictures.append(draw_detections(image, found, validation.classes))
    rank_zero_only(_save)(montage(pictures), path)


def _save(picture: Image.Image, path: Path) -> None:
    with written_aside(path) as draft:
        picture.save(draft, format="PNG")


def montage(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures in two columns, on white."""
    rows = [pictures[start : start + 2] for start in range(0, len(pictures), 2)]
    width = max(sum(each.width for each in row) for row in rows)
    whole = Image.new("RGB", (width, sum(max(each.height for each in row) for row in rows)), "white")
    top = 0
    for row in rows:
        left = 0
        for each in row:
            whole.paste(each, (left, top))
            left += each.width
        top += max(each.height for each in row)
    return whole

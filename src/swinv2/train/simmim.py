"""What a run of SimMIM pre-training has of its own: its model, its task, and pictures of what it paints."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from matplotlib.figure import Figure
from torch import Tensor

from swinv2.checkpoint.pretraining import load_simmim
from swinv2.data.labelled import Sample, labelled_images
from swinv2.data.loading import SampleKey
from swinv2.data.masking import Masking
from swinv2.data.sources import ImageSource
from swinv2.data.transforms import eval_transform
from swinv2.model.simmim import SimMIM, paint, spread, unit_size
from swinv2.preprocessing import Preprocessing
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.simmim import EVERY_EPOCH, SimMIMTask
from swinv2.train.folder import RunFolder
from swinv2.train.images import ImageJob
from swinv2.train.initial import Initial, check_weights, described, fresh_config, own_info, prepared, what_changes
from swinv2.train.job import Draw
from swinv2.train.options import Recipe
from swinv2.train.plots import save
from swinv2.train.scores import Scores

RECONSTRUCTIONS = "reconstructions.png"
SHOWN_IMAGES = 8
"""So many validation images are painted, evenly spread over all of them."""


class SimMIMJob(ImageJob):
    """SimMIM pre-training on images, whose labels take no part."""

    scores = Scores()
    labelled = False

    def initial(self, recipe: Recipe, training: ImageSource, last: Path | None) -> Initial:
        """See `initial`."""
        return initial(recipe, last)

    def task(self, start: Initial, training: ImageSource, validation: ImageSource, optimise: Optimise) -> Task:
        """See `task`."""
        assert isinstance(start.model, SimMIM)
        return task(start.recipe, start.model, optimise)

    def drawing(self, start: Initial, folder: RunFolder, validation: ImageSource) -> Draw:
        """See `Reconstructions`."""
        return Reconstructions(folder, start.recipe, validation)


def initial(recipe: Recipe, last: Path | None = None) -> Initial:
    """The model of a recipe, fresh, around somebody's weights, or as the checkpoint of a run that goes on describes it.

    Raises:
        ValueError: The recipe does not make a model, its masks do not fit its images, or the weights do not fit.
    """
    masks = masking(recipe)
    if last is not None:
        start = described(last, recipe, SimMIM.kind)
    elif recipe.model.weights:
        start = _from_weights(recipe, recipe.model.weights)
    else:
        recipe = recipe.completed()
        model = SimMIM(fresh_config(recipe, num_classes=0))
        model.info = own_info(recipe, (), model.info.source)
        start = Initial(model, recipe)
    assert isinstance(start.model, SimMIM)
    masks.units(start.recipe.model.size)
    start.model.patches(masks.pixels(start.model.config.ndim))
    return prepared(start)


def _from_weights(recipe: Recipe, weights: str) -> Initial:
    """Opened twice, as in `swinv2.train.initial`: as the weights are, and as they shall be."""
    options = recipe.model
    stored = _silently(weights, dtype="keep", key=options.weights_key, **options.overrides)[0]
    check_weights(recipe, stored)
    whole = recipe.completed(stored.info.preprocessing)
    model, warned = _silently(
        weights,
        key=options.weights_key,
        window_size=options.window_size,
        in_channels=whole.input.channels,
        **options.overrides,
    )
    model.info = own_info(whole, (), stored.info.source)
    told = "; ".join(what_changes(stored, model.config, recipe, whole))
    return Initial(model, whole, (f"starting from {weights} ({stored.info.source}): {told}", *warned))


def _silently(weights: str, **overrides: object) -> tuple[SimMIM, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_simmim(weights, **overrides)  # type: ignore[arg-type]
    return model, [f"note: {warning.message}" for warning in caught]


def masking(recipe: Recipe) -> Masking:
    """How a recipe masks."""
    return Masking(unit=recipe.simmim.mask_unit, ratio=recipe.simmim.mask_ratio)


def task(recipe: Recipe, model: SimMIM, optimise: Optimise) -> SimMIMTask:
    """The task of a recipe."""
    options = recipe.simmim
    return SimMIMTask(model, masking(recipe), optimise=optimise, target_window=options.target_window, seed=recipe.seed)


class Reconstructions:
    """Draws what the model paints on some validation images; all processes paint, since it may be shared among them."""

    def __init__(self, folder: RunFolder, recipe: Recipe, validation: ImageSource) -> None:
        self.path = folder.path / RECONSTRUCTIONS
        self.preprocessing = recipe.input
        self.samples = labelled_images(validation, eval_transform(recipe.input), recipe.input.channels)

    def __call__(self, task: Task, reached: str) -> None:
        """Paint, and let the first process draw."""
        assert isinstance(task, SimMIMTask)
        shown = self._images()
        if shown:
            images = torch.stack(list(shown.values())).to(task.model.mask_token)
            pictures = self._paint(task, images, list(shown))
            figure = draw_reconstructions(*pictures, title=f"{reached}, loss {task.figures()['loss']:.4f}")
            rank_zero_only(save)(figure, self.path)

    def _images(self) -> dict[int, Tensor]:
        """Readable images ``[C, H, W]`` by their rows."""
        total = len(self.samples)
        count = min(SHOWN_IMAGES, total)
        rows = [place * total // count for place in range(count)]
        found = {row: self.samples[SampleKey(0, EVERY_EPOCH, row)] for row in rows}
        return {row: sample.image for row, sample in found.items() if isinstance(sample, Sample)}

    @torch.no_grad()
    def _paint(self, task: SimMIMTask, images: Tensor, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Originals, what the model saw, and what it made of it, as pixels in [0, 1]."""
        mask = task.masks(images, rows)
        painted = paint(images, task.model(images, mask), mask, task.target_window)
        hidden = spread(mask, unit_size(images, mask))[:, None]
        return tuple(pixels(x, self.preprocessing) for x in (images, images.masked_fill(hidden, 0.0), painted))  # type: ignore[return-value]


def pixels(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Undo the normalisation of ``[B, C, *size]``, to [0, 1]; what is 0 becomes the mean's colour."""
    shape = (1, -1, *(1,) * (images.ndim - 2))
    mean, std = (
        torch.tensor(values, device=images.device).view(shape) for values in (preprocessing.mean, preprocessing.std)
    )
    return (images.float() * std + mean).clamp(0, 1)


def draw_reconstructions(originals: Tensor, masked: Tensor, painted: Tensor, title: str = "") -> Figure:
    """A row for each image: original, masked, and with the model's paint where it was masked.

    Args:
        originals: ``[B, C, *size]`` in [0, 1]; of clips, the middle frame is shown.
        masked: the same with masked units in one colour.
        painted: the same with masked units as the model paints them.
        title: above all.
    """
    columns = {"original": originals, "masked": masked, "reconstruction": painted}
    height, width = originals.shape[-2:]
    figure = Figure(figsize=(6, 0.6 + 2 * len(originals) * height / width), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(originals), len(columns), squeeze=False)
    for column, (name, images) in enumerate(columns.items()):
        axes[0, column].set_title(name)
        for row, image in enumerate(images.cpu()):
            frame = image if image.ndim == 3 else image[:, image.shape[1] // 2]
            shown = frame[0] if len(frame) == 1 else frame.movedim(0, -1)
            axes[row, column].imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[row, column].set_axis_off()
    return figure

"""The steps of the segmentation task against plain computations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swinv2.config import SwinConfig
from swinv2.data.segmentation import SegmentationSample, collate
from swinv2.model.upernet import Segmenter
from swinv2.tasks.segment.metrics import means
from swinv2.tasks.segment.options import LossOptions
from swinv2.tasks.segment.task import SegmentationTask

CLASSES = ("sky", "road", "tree")
CONFIG = SwinConfig(
    embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 2), window_size=2, num_classes=len(CLASSES)
)
COMMON: dict[str, Any] = {"indices": torch.arange(2), "skipped": (), "seconds": 0.0, "epoch": 0}


@pytest.fixture
def make_task(one_thread: None, randomise: Callable[..., nn.Module]) -> Callable[..., SegmentationTask]:
    def make(loss: LossOptions | None = None, **heads: Any) -> SegmentationTask:
        heads = {"channels": 8, "auxiliary_map": 1, "auxiliary_channels": 4, "dropout": 0.0, **heads}
        model = randomise(Segmenter(CONFIG, **heads))
        task = SegmentationTask(model, CLASSES, optimise=lambda _: None, loss=loss)
        task.log = task.log_dict = lambda *_, **__: None  # there is no trainer
        return task

    return make


def batch(*sizes: tuple[int, int], label_scale: int = 1) -> Any:
    generator = torch.Generator().manual_seed(0)
    samples = [
        SegmentationSample(
            torch.randn(3, *size, generator=generator),
            torch.randint(3, [side * label_scale for side in size], generator=generator),
        )
        for size in sizes
    ]
    for sample in samples:
        sample.labels[:2] = 255
    return collate(samples, ignore_index=255, **COMMON | {"indices": torch.arange(len(samples))})


def test_the_loss_is_of_both_heads(make_task: Callable[..., SegmentationTask]) -> None:
    task, x = make_task(auxiliary_weight=0.3).train(), batch((8, 12), (8, 12))
    loss = task.training_step(x, 0)
    logits, auxiliary = task.model(x.images, with_auxiliary=True)
    main, side = (F.cross_entropy(each, x.labels, ignore_index=255) for each in (logits, auxiliary))
    torch.testing.assert_close(loss, main + 0.3 * side)
    assert abs(main - side) > 0.01


def test_without_auxiliary_head_it_is_of_one(make_task: Callable[..., SegmentationTask]) -> None:
    task, x = make_task(auxiliary_map=None).train(), batch((8, 12), (8, 12))
    torch.testing.assert_close(
        task.training_step(x, 0), F.cross_entropy(task.model(x.images), x.labels, ignore_index=255)
    )


def test_options_of_the_loss_are_heeded(make_task: Callable[..., SegmentationTask]) -> None:
    weights = (0.2, 1.0, 3.0)
    task, x = make_task(LossOptions(class_weights=weights), auxiliary_map=None).train(), batch((8, 12), (8, 12))
    expected = F.cross_entropy(task.model(x.images), x.labels, torch.tensor(weights), ignore_index=255)
    torch.testing.assert_close(task.training_step(x, 0), expected)


def test_images_of_several_sizes_are_validated_as_they_are(make_task: Callable[..., SegmentationTask]) -> None:
    """Each alone, without the padding of the batch, against the pixels of its own label map."""
    task, sizes = make_task().eval(), ((8, 12), (10, 8), (8, 12))
    x = batch(*sizes, label_scale=2)
    task.on_validation_epoch_start()
    with torch.no_grad():
        task.validation_step(x, 0)
        matrix, losses = torch.zeros(3, 3), []
        for image, labels, (height, width) in zip(x.images, x.labels, sizes, strict=True):
            logits = task.model(image[None, :, :height, :width])
            logits = F.interpolate(logits, (2 * height, 2 * width), mode="bilinear")
            labels = labels[None, : 2 * height, : 2 * width]
            losses.append(F.cross_entropy(logits, labels, ignore_index=255, reduction="none")[labels != 255])
            for true, seen in zip(labels[labels != 255], logits.argmax(1)[labels != 255], strict=True):
                matrix[true, seen] += 1
    figures = task.figures()
    assert figures["loss"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert {name: figures[name] for name in ("miou", "macc", "aacc")} == pytest.approx(means(matrix))
    assert task.metrics.images() == 3


def test_a_batch_of_nothing_counts_nothing(make_task: Callable[..., SegmentationTask]) -> None:
    task = make_task().eval()
    task.on_validation_epoch_start()
    task.validation_step(batch(), 0)
    assert task.metrics.images() == 0
    assert task.train().training_step(batch(), 0) is None


def test_a_process_without_images_has_zero_gradients_for_all(make_task: Callable[..., SegmentationTask]) -> None:
    task = make_task().train()
    loss = task.nothing()
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in task.model.parameters())
    assert task.eval().nothing() == 0


def test_figures_of_no_labelled_pixel_are_refused(make_task: Callable[..., SegmentationTask]) -> None:
    task, x = make_task().eval(), batch((8, 12))
    task.on_validation_epoch_start()
    with torch.no_grad():
        task.validation_step(x._replace(labels=torch.full_like(x.labels, 255)), 0)
    with pytest.raises(ValueError, match="no pixel of the validation images has a label"):
        task.figures()

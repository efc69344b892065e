import math
from typing import Any

import pytest
import torch
from torch import Tensor

from swinv2.data.labelled import Batch
from swinv2.data.options import AugmentOptions
from swinv2.data.transforms import mixing
from swinv2.model import SwinTransformer, create_model
from swinv2.tasks.classify import ClassificationTask

EMPTY = Batch(torch.empty(0), torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), ("a.png: broken",))


@pytest.fixture
def model() -> SwinTransformer:
    tiny = {"embed_dim": 8, "depths": (1,), "num_heads": (1,), "patch_size": 2, "window_size": 2}
    return create_model("swinv2_nano", image_size=8, num_classes=4, **tiny)


def task(model: SwinTransformer, **options: Any) -> ClassificationTask:
    made = ClassificationTask(model, list("abcd"), optimise=lambda model: None, **options)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer to log to
    return made


def batch(images: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (images,), generator=generator)
    return Batch(torch.randn(images, 3, 8, 8, generator=generator), labels, torch.arange(images), ())


def log_probabilities(model: SwinTransformer, images: Tensor) -> Tensor:
    return model(images).double().log_softmax(1)


def test_training_loss_smooths_labels(model: SwinTransformer) -> None:
    images, labels, *_ = batch(5)
    targets = torch.full((5, 4), 0.2 / 4).scatter(1, labels[:, None], 1 - 0.2 + 0.2 / 4)
    expected = -(targets * log_probabilities(model, images)).sum(1).mean()
    loss = task(model, label_smoothing=0.2).training_step(batch(5), 0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_mixed_targets_are_not_smoothed_again(model: SwinTransformer) -> None:
    soft = torch.tensor([[0.7, 0.3, 0.0, 0.0]] * 4)

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images[:4].flip(0), soft

    images = batch(5).images
    expected = -(soft * log_probabilities(model, images[:4].flip(0))).sum(1).mean()
    loss = task(model, mixing=mix, label_smoothing=0.2).training_step(batch(5), 0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("images", [1, 2, 7])
def test_the_published_mixing_takes_any_batch(model: SwinTransformer, images: int) -> None:
    loss = task(model, mixing=mixing(AugmentOptions(), 4)).training_step(batch(images), 0)
    assert loss is not None
    assert math.isfinite(loss.item())


def test_a_batch_without_images_is_passed_over(model: SwinTransformer) -> None:
    trained = task(model)
    assert trained.training_step(EMPTY, 0) is None
    trained.validation_step(EMPTY, 0)
    assert not trained.metrics.loss.update_called
    assert not trained.train_loss.update_called


def test_the_loss_of_an_epoch_counts_images_not_batches(model: SwinTransformer) -> None:
    trained = task(model)
    losses = [trained.training_step(batch(images), 0).item() for images in (6, 2)]
    assert float(trained.train_loss.compute()) == pytest.approx((6 * losses[0] + 2 * losses[1]) / 8)


def test_validation_counts_hard_labels(model: SwinTransformer) -> None:
    trained = task(model, label_smoothing=0.5)
    images, labels, *_ = batch(6)
    trained.validation_step(batch(6), 0)
    expected = -log_probabilities(model, images).gather(1, labels[:, None]).mean()
    assert trained.metrics.scalars()["loss"] == pytest.approx(expected.item(), rel=1e-5)

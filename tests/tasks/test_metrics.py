import pytest
import torch
import torch.nn.functional as F

from swinv2.tasks.metrics import MOST_CLASSES_OF_MATRIX, ClassificationMetrics


def test_metrics_of_uneven_batches_are_those_of_all_images() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(23, 7, generator=generator), torch.randint(7, (23,), generator=generator)
    metrics = ClassificationMetrics(7)
    for part in (slice(0, 20), slice(20, 23)):
        metrics.update(logits[part], labels[part])
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert metrics.scalars() == pytest.approx(
        {
            "loss": F.cross_entropy(logits, labels).item(),
            "top1": (ranks < 1).float().mean().item(),
            "top5": (ranks < 5).float().mean().item(),
        }
    )
    matrix = metrics.matrix()
    assert matrix.sum(1).tolist() == labels.bincount(minlength=7).tolist()
    assert matrix.sum(0).tolist() == logits.argmax(1).bincount(minlength=7).tolist()
    assert matrix.trace() == (ranks < 1).sum()


def test_top_5_of_fewer_classes_is_everything() -> None:
    metrics = ClassificationMetrics(3)
    metrics.update(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([2]))
    assert metrics.scalars()["top5"] == 1
    assert metrics.scalars()["top1"] == 0


def test_reset_forgets() -> None:
    metrics = ClassificationMetrics(2)
    metrics.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    metrics.reset()
    metrics.update(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert metrics.scalars()["top1"] == 1
    assert metrics.matrix().tolist() == [[1, 0], [0, 0]]


def test_half_precision_logits_are_judged_in_fp32() -> None:
    logits = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.zeros(64, dtype=torch.long)
    metrics = ClassificationMetrics(5)
    metrics.update(logits, labels)
    assert metrics.scalars()["loss"] == pytest.approx(F.cross_entropy(logits.double(), labels).item(), rel=1e-5)


def test_a_single_class_is_always_right() -> None:
    metrics = ClassificationMetrics(1)
    metrics.update(torch.tensor([[3.0], [-2.0]]), torch.tensor([0, 0]))
    assert metrics.scalars() == {"loss": 0.0, "top1": 1.0, "top5": 1.0}
    assert metrics.matrix().tolist() == [[2]]


def test_there_is_no_matrix_of_very_many_classes() -> None:
    metrics = ClassificationMetrics(MOST_CLASSES_OF_MATRIX + 1)
    metrics.update(torch.zeros(1, MOST_CLASSES_OF_MATRIX + 1), torch.tensor([0]))
    metrics.reset()
    assert metrics.matrix() is None
    assert ClassificationMetrics(MOST_CLASSES_OF_MATRIX).matrix() is not None


def test_images_are_counted_and_a_loss_that_is_no_number_shows() -> None:
    metrics = ClassificationMetrics(2)
    metrics.update(torch.empty(0), torch.empty(0, dtype=torch.long))
    assert metrics.images() == 0
    metrics.update(torch.tensor([[float("nan"), 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    assert metrics.images() == 2
    assert metrics.scalars()["loss"] != metrics.scalars()["loss"]

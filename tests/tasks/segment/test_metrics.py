"""Segmentation metrics against torchmetrics and against counting sets of pixels."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from swinv2.tasks.segment.metrics import ClassScore, SegmentationMetrics, means, scores, table

NAMES = ("sky", "road", "tree", "car", "sign")


def batches(ignore_index, classes=5, seed=0):
    """Uneven ones, predictions being right half of the time."""
    generator = torch.Generator().manual_seed(seed)
    for batch, size in ((3, (9, 11)), (1, (20, 6))):
        labels = torch.randint(classes, (batch, *size), generator=generator)
        logits = torch.randn(batch, classes, *size, generator=generator)
        right = torch.rand(labels.shape, generator=generator) < 0.5
        logits += 5 * F.one_hot(labels, classes).movedim(-1, 1) * right[:, None]
        labels[torch.rand(labels.shape, generator=generator) < 0.3] = ignore_index
        yield logits, labels


def counted(ignore_index, classes=NAMES):
    metrics = SegmentationMetrics(classes, ignore_index)
    for batch in batches(ignore_index, len(classes)):
        metrics.update(*batch)
    return metrics


def flat(ignore_index):
    logits, labels = zip(*batches(ignore_index), strict=True)
    predicted = torch.cat([x.argmax(1).flatten() for x in logits])
    return predicted, torch.cat([x.flatten() for x in labels])


@pytest.mark.parametrize("ignore_index", [255, 5, 65535])
def test_metrics_equal_torchmetrics(ignore_index):
    metrics, (predicted, labels) = counted(ignore_index), flat(ignore_index)

    def theirs(kind, average):
        return kind(len(NAMES), average=average, ignore_index=ignore_index)(predicted, labels)

    found = metrics.scalars()
    assert found["miou"] == pytest.approx(float(theirs(MulticlassJaccardIndex, "macro")))
    assert found["macc"] == pytest.approx(float(theirs(MulticlassAccuracy, "macro")))
    assert found["aacc"] == pytest.approx(float(theirs(MulticlassAccuracy, "micro")))
    rows = metrics.per_class()
    assert [row.name for row in rows] == list(NAMES)
    assert [row.iou for row in rows] == pytest.approx(theirs(MulticlassJaccardIndex, "none").tolist())
    assert [row.accuracy for row in rows] == pytest.approx(theirs(MulticlassAccuracy, "none").tolist())


def test_metrics_equal_a_plain_count():
    metrics, (predicted, labels) = counted(255), (x.numpy() for x in flat(255))
    predicted, labels = predicted[labels != 255], labels[labels != 255]
    ious, accuracies = [], []
    for number, row in enumerate(metrics.per_class()):
        there, found = set(np.flatnonzero(labels == number)), set(np.flatnonzero(predicted == number))
        ious.append(len(there & found) / len(there | found))
        accuracies.append(len(there & found) / len(there))
        assert row == pytest.approx((NAMES[number], ious[-1], accuracies[-1], len(there)))
    expected = {"miou": np.mean(ious), "macc": np.mean(accuracies), "aacc": np.mean(labels == predicted)}
    logits = [F.cross_entropy(*batch, ignore_index=255, reduction="sum") for batch in batches(255)]
    assert metrics.scalars() == pytest.approx({"loss": float(sum(logits)) / len(labels), **expected})
    assert metrics.images() == 4


def test_what_a_class_has_not_is_left_out_of_the_mean():
    """sky is in no map and never predicted; car is predicted only; sign is there and never predicted."""
    labels = torch.tensor([[[1, 1, 1, 2, 4, 255]]])
    predicted = torch.tensor([[[1, 1, 3, 2, 2, 0]]])
    metrics = SegmentationMetrics(NAMES, 255)
    metrics.count_maps(predicted, labels)
    assert [row.iou for row in metrics.per_class()] == pytest.approx([math.nan, 2 / 3, 1 / 2, 0, 0], nan_ok=True)
    assert [row.accuracy for row in metrics.per_class()] == pytest.approx(
        [math.nan, 2 / 3, 1, math.nan, 0], nan_ok=True
    )
    found = metrics.scalars()
    assert found["miou"] == pytest.approx((2 / 3 + 1 / 2) / 4)
    assert found["macc"] == pytest.approx((2 / 3 + 1) / 3)
    assert found["aacc"] == pytest.approx(3 / 5)
    assert math.isnan(found["loss"])


def test_maps_are_counted_as_logits_are():
    metrics = SegmentationMetrics(NAMES, 255)
    for logits, labels in batches(255):
        metrics.count_maps(logits.argmax(1), labels)
    assert torch.equal(metrics.matrix(), counted(255).matrix())


def test_logarithms_of_probabilities_do_for_logits():
    metrics = SegmentationMetrics(NAMES, 255)
    for logits, labels in batches(255):
        metrics.update(logits.log_softmax(1), labels)
    assert metrics.scalars() == pytest.approx(counted(255).scalars())


def test_nothing_to_judge():
    metrics = SegmentationMetrics(NAMES, 255)
    metrics.update(torch.empty(0), torch.empty(0, dtype=torch.long))
    assert metrics.images() == 0
    metrics.update(torch.randn(2, 5, 3, 3), torch.full((2, 3, 3), 255))
    assert metrics.images() == 2
    assert all(math.isnan(value) for value in metrics.scalars().values())


def test_reset_forgets():
    metrics = counted(255)
    metrics.reset()
    logits = torch.tensor([[[[5.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]]])
    metrics.update(logits, torch.tensor([[[0]]]))
    assert metrics.images() == 1
    assert metrics.scalars()["miou"] == metrics.scalars()["aacc"] == 1


def test_a_single_class_is_always_right():
    metrics = SegmentationMetrics(("cell",), 255)
    metrics.update(torch.randn(1, 1, 2, 2), torch.tensor([[[0, 0], [255, 0]]]))
    assert metrics.scalars() == {"loss": 0.0, "miou": 1.0, "macc": 1.0, "aacc": 1.0}
    assert metrics.per_class() == [ClassScore("cell", 1.0, 1.0, 3)]


def test_half_precision_logits_are_judged_in_fp32():
    logits, labels = next(batches(255))
    metrics = SegmentationMetrics(NAMES, 255)
    metrics.update(logits.bfloat16(), labels)
    expected = F.cross_entropy(logits.bfloat16().double(), labels, ignore_index=255).item()
    assert metrics.scalars()["loss"] == pytest.approx(expected, rel=1e-5)


def test_counts_beyond_16_million_are_exact():
    """fp32 would lose single pixels there."""
    matrix = torch.tensor([[2**25, 1], [1, 2**25]])
    assert means(matrix)["aacc"] < 1
    assert scores(matrix)[0][0] < 1


def test_table_shows_what_is_not_there():
    text = table([ClassScore("sky", 0.5, 0.75, 1234), ClassScore("pedestrian", math.nan, math.nan, 0)])
    assert text.splitlines() == [
        "class       IoU %  accuracy %  pixels",
        "sky         50.00       75.00   1,234",
        "pedestrian      -           -       0",
    ]


RANKS = """
import os, sys, torch, torch.distributed as dist
from swinv2.tasks.segment.metrics import SegmentationMetrics
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
metrics = SegmentationMetrics(("a", "b"), 255)
if rank == 0:
    logits = torch.tensor([[[[2.0, 0.0, 2.0]], [[0.0, 2.0, 0.0]]]])
    metrics.update(logits, torch.tensor([[[0, 1, 1]]]))
else:
    metrics.update(torch.empty(0), torch.empty(0, dtype=torch.long))
    metrics.count_maps(torch.tensor([[[1, 1]]]), torch.tensor([[[0, 255]]]))
print(metrics.images(), metrics.matrix().tolist(), round(metrics.scalars()["miou"], 6))
"""


@pytest.mark.slow
def test_processes_count_together(tmp_path):
    commands = [[sys.executable, "-c", RANKS, str(rank), str(tmp_path / "store")] for rank in (0, 1)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    for process in running:
        assert process.communicate(timeout=120)[0].strip() == "2 [[1, 1], [1, 1]] 0.333333"

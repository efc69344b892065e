"""The loss against PyTorch's and against mmsegmentation's definition of OHEM, pixel by pixel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swinv2.tasks.segment.loss import SegmentationLoss
from swinv2.tasks.segment.options import LossOptions

IGNORED = 255


def case(seed=0, batch=2, classes=5, size=(6, 7), ignored=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, classes, *size, generator=generator)
    labels = torch.randint(classes, (batch, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = IGNORED
    return logits, labels


@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 2.0, 0.0, 3.0)])
def test_plain_loss_is_pytorchs(weights):
    logits, labels = case()
    loss = SegmentationLoss(5, IGNORED, LossOptions(class_weights=weights))(logits, labels)
    weight = None if weights is None else torch.tensor(weights)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, weight, ignore_index=IGNORED))


@pytest.mark.parametrize("ignore_index", [0, 5, 65535])
def test_any_label_can_be_ignored(ignore_index):
    logits, labels = case(ignored=0)
    labels[labels == 0] = ignore_index
    loss = SegmentationLoss(5, ignore_index, LossOptions(class_weights=(1.0, 2.0, 3.0, 4.0, 5.0)))(logits, labels)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, weight, ignore_index=ignore_index))


def test_average_over_all_pixels_counts_ignored_ones_as_0():
    logits, labels = case()
    loss = SegmentationLoss(5, IGNORED, LossOptions(average="all"))(logits, labels)
    total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(loss, total / labels.numel())


@pytest.mark.parametrize(
    "options", [LossOptions(), LossOptions(ohem=True), LossOptions(ohem=True, ohem_threshold=None)]
)
def test_nothing_labelled_gives_0_and_no_gradient(options):
    logits, labels = case()
    logits.requires_grad_()
    loss = SegmentationLoss(5, IGNORED, options)(logits, torch.full_like(labels, IGNORED))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def kept_by_definition(logits, labels, threshold, min_kept):
    """mmsegmentation's OHEMPixelSampler in words, for a list of pixels."""
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    pixels = [index for index in np.ndindex(labels.shape) if labels[index] != IGNORED]
    sure = {(b, y, x): probabilities[b, labels[b, y, x], y, x] for b, y, x in pixels}
    ranked = sorted(sure, key=sure.get)
    most = min_kept * len(labels)
    if threshold is None:
        return set(ranked[:most])  # the highest loss is the lowest probability
    limit = max(threshold, sure[ranked[min(most, len(ranked) - 1)]])
    return {pixel for pixel in ranked if sure[pixel] < limit}


@pytest.mark.parametrize(
    ("threshold", "min_kept", "kept"),
    [(0.9, 3, None), (0.0001, 12, 24), (0.3, 1000, None), (None, 10, 20), (None, 1000, None)],
    ids=["threshold", "rank", "fewer than the rank", "highest loss", "all"],
)
def test_ohem_keeps_the_pixels_of_the_definition(threshold, min_kept, kept):
    logits, labels = case(1)
    pixels = kept_by_definition(logits.double().numpy(), labels.numpy(), threshold, min_kept)
    assert 0 < len(pixels) <= int((labels != IGNORED).sum())
    assert kept is None or len(pixels) == kept
    logits.requires_grad_()
    options = LossOptions(ohem=True, ohem_threshold=threshold, ohem_min_kept=min_kept)
    loss = SegmentationLoss(5, IGNORED, options)(logits, labels)
    loss.backward()
    assert set(map(tuple, logits.grad.any(1).nonzero().tolist())) == pixels
    each = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    expected = sum(each[pixel] for pixel in pixels) / (labels != IGNORED).sum()
    torch.testing.assert_close(loss, expected)


def test_ohem_weighs_classes_too():
    logits, labels = case(2)
    weights = (0.2, 1.0, 5.0, 1.0, 1.0)
    options = LossOptions(ohem=True, ohem_threshold=None, ohem_min_kept=5, class_weights=weights)
    each = F.cross_entropy(logits, labels, torch.tensor(weights), ignore_index=IGNORED, reduction="none")
    total = sum(weights[label] for label in labels[labels != IGNORED].tolist())
    expected = each.flatten().sort(descending=True).values[:10].sum() / total
    torch.testing.assert_close(SegmentationLoss(5, IGNORED, options)(logits, labels), expected)


def test_half_precision_logits_are_judged_in_fp32():
    logits, labels = case()
    half = logits.bfloat16()
    loss = SegmentationLoss(5, IGNORED)(half, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(half.float(), labels, ignore_index=IGNORED))


def test_weights_are_not_in_the_state():
    loss = SegmentationLoss(2, IGNORED, LossOptions(class_weights=(1.0, 2.0)))
    assert not loss.state_dict()
    assert loss.double().weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": (1.0, -1.0)}, "class_weights"),
        ({"class_weights": (0.0, 0.0)}, "class_weights"),
        ({"class_weights": (1.0,)}, "1 class_weights were given for 2 classes"),
        ({"ohem_threshold": 0.0}, "ohem_threshold 0.0"),
        ({"ohem_min_kept": 0}, "ohem_min_kept 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationLoss(2, IGNORED, LossOptions(**options))

import math

import pytest
import torch
from torchvision.ops import box_iou

from swinv2.benchmark.memory import usage
from swinv2.model.detect import DetectorConfig
from swinv2.model.detect.suppression import suppress


def candidates(count, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=generator) * 30
    boxes = torch.cat([start, start + 10 + 20 * torch.rand(count, 2, generator=generator)], 1)
    scores = torch.rand(count, generator=generator)
    return boxes, scores, torch.randint(1, classes + 1, (count,), generator=generator)


def overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def by_definition(boxes, scores, labels, config):
    """Figure 2 of the paper, one class after the other."""
    found = []
    for label in set(labels.tolist()):
        left = [(s, i) for i, s in enumerate(scores.tolist()) if labels[i] == label]
        while left:
            score, best = max(left)
            found.append((score, best))
            rest = []
            for other_score, other in left:
                if other == best:
                    continue
                iou = overlap(boxes[best].tolist(), boxes[other].tolist())
                if config.suppression == "nms":
                    factor = 0.0 if iou > config.suppression_iou else 1.0
                elif config.suppression == "soft_nms_linear":
                    factor = 1 - iou if iou > config.suppression_iou else 1.0
                else:
                    factor = math.exp(-(iou**2) / config.soft_nms_sigma)
                rest.append((other_score * factor, other))
            left = rest
    return sorted((each for each in found if each[0] > config.score_threshold), reverse=True)


@pytest.mark.parametrize("limit", [5, 1000])
@pytest.mark.parametrize("kind", ["nms", "soft_nms_linear", "soft_nms_gaussian"])
def test_as_defined(kind, limit):
    config = DetectorConfig(suppression=kind, suppression_iou=0.3, detections_per_image=limit, score_threshold=0.05)
    boxes, scores, labels = candidates(80)
    above = scores > config.score_threshold  # as the detector gives them
    boxes, scores, labels = boxes[above], scores[above], labels[above]
    want = by_definition(boxes, scores, labels, config)
    assert len(want) > 5
    kept, changed = suppress(boxes, scores, labels, config)
    assert kept.tolist() == [index for _, index in want[:limit]]
    assert changed.tolist() == pytest.approx([score for score, _ in want[:limit]], rel=1e-5)
    if kind != "nms" and limit > len(kept):
        assert (changed < scores[kept]).any()


@pytest.mark.parametrize("kind", ["nms", "soft_nms_linear", "soft_nms_gaussian"])
def test_no_candidates_and_copies_of_one(kind):
    config = DetectorConfig(suppression=kind, score_threshold=0.0)
    kept, scores = suppress(*(x[:0] for x in candidates(3)), config)
    assert kept.shape == scores.shape == (0,)
    assert kept.dtype == torch.int64
    box, _, _ = candidates(1)
    kept, scores = suppress(box.repeat(4, 1), torch.tensor([0.2, 0.9, 0.4, 0.3]), torch.tensor([1, 1, 1, 2]), config)
    assert kept[0] == 1
    assert 3 in kept.tolist()
    assert len(set(kept.tolist())) == len(kept)
    assert (len(kept) == 2) == (kind != "soft_nms_gaussian")


def test_the_input_is_left_as_it_was():
    boxes, scores, labels = candidates(20)
    before = scores.clone()
    suppress(boxes, scores, labels, DetectorConfig(suppression="soft_nms_linear"))
    assert torch.equal(scores, before)


def test_memory_is_bounded_for_any_number_of_candidates():
    config = DetectorConfig(suppression="soft_nms_linear", score_threshold=0.0, detections_per_image=10)
    many = candidates(1500)
    pairs = usage(lambda: box_iou(many[0], many[0]), torch.device("cpu")).peak
    assert usage(lambda: suppress(*many, config), torch.device("cpu")).peak < pairs / 50

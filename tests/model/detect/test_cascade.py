"""Losses and detections of cascades against plain loops (plain_detector.py), in fp64."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from swinv2.model.detect import detector_config
from swinv2.model.detect.cascade import Cascade

sys.path.insert(0, str(Path(__file__).parent))
plain = importlib.import_module("plain_detector")

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES, PADDED = [(64, 90), (60, 96)], (64, 96)
LEVELS = {"0": 4, "1": 8, "2": 16, "3": 32, "pool": 64}
SMALL = {"num_classes": 3, "pyramid_channels": 6, "box_features": 12, "box_samples": 10**6, "box_positives": 0.5}
CASES = {
    "faster": ("faster_rcnn", {}),
    "cascade": ("cascade_rcnn", {}),
    "cascade by class": ("cascade_rcnn", {"class_agnostic_boxes": False}),
    "cascade masks": ("cascade_mask_rcnn", {}),
    "htc": ("htc", {}),
    "htc by class": ("htc", {"class_agnostic_boxes": False, "box_loss_beta": 0.3}),
    "htc not interleaved": ("htc", {"interleaved": False}),
    "htc without flow": ("htc", {"mask_flow": False}),
    "htc semantic": ("htc", {"semantic_classes": 5}),
}


@pytest.fixture(params=CASES)
def case(request, spread):
    name, overrides = CASES[request.param]
    config = detector_config(name, **SMALL, score_threshold=0.1, **overrides)
    heads = spread(Cascade(LEVELS, config).double(), gain=1.6)
    generator = torch.Generator().manual_seed(1)
    maps = {
        name: torch.randn(2, 6, -(-64 // s), -(-96 // s), dtype=torch.float64, generator=generator)
        for name, s in LEVELS.items()
    }
    return heads, maps, plain.Plain(heads.state_dict(), config, list(maps.values()), SIZES)


def proposals(targets, seed=2):
    """Near the objects, nearer, and anywhere."""
    generator = torch.Generator().manual_seed(seed)
    known = []
    for target, (height, width) in zip(targets, SIZES, strict=True):
        near = target["boxes"].repeat(4, 1)
        near = near + torch.randn(near.shape, generator=generator) * torch.tensor([1.0, 2.5]).repeat(2)
        start = torch.rand(4, 2, generator=generator) * 40
        far = torch.cat([start, start + 10 + 15 * torch.rand(4, 2, generator=generator)], 1)
        every = torch.cat([near, far]).clamp(min=0)
        known.append(torch.minimum(every, torch.tensor([width, height] * 2)).double())
    return known


def test_losses(case, pictures):
    heads, maps, reference = case
    _, targets = pictures(SIZES, [3, 2])
    targets = [{**target, "boxes": target["boxes"].double()} for target in targets]
    known = proposals(targets)
    losses = heads.losses(maps, known, SIZES, PADDED, targets)
    want = reference.losses(known, targets)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(want, rel=1e-9)
    assert all(value > 1e-3 for value in want.values())


def test_detections(case, pictures):
    heads, maps, reference = case
    known = proposals(pictures(SIZES, [3, 2])[1])
    with torch.no_grad():
        found = heads.detect(maps, known, SIZES)
    for got, want in zip(found, reference.detections(known), strict=True):
        assert len(want) > 3
        scores, labels, boxes, masks = zip(*want, strict=True)
        assert got["labels"].tolist() == list(labels)
        torch.testing.assert_close(got["scores"], torch.tensor(scores, dtype=torch.float64), rtol=1e-9, atol=0)
        torch.testing.assert_close(got["boxes"], torch.tensor(boxes, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        if heads.config.masks:
            torch.testing.assert_close(got["masks"][:, 0], torch.stack(masks), rtol=1e-9, atol=1e-9)
        else:
            assert "masks" not in got


def test_no_gradient_passes_through_boxes(spread, pictures):
    """A later stage's losses teach the heads of earlier ones nothing (but for the features of masks)."""
    heads = spread(Cascade(LEVELS, detector_config("cascade_mask_rcnn", **SMALL)))
    maps = {name: torch.randn(2, 6, -(-64 // s), -(-96 // s)) for name, s in LEVELS.items()}
    _, targets = pictures(SIZES, [3, 2])
    known = [each.float() for each in proposals(targets)]
    losses = heads.losses(maps, known, SIZES, PADDED, targets)
    sum(loss for name, loss in losses.items() if name.endswith("_3")).backward()
    taught = {name[: len("box.0")] for name, parameter in heads.named_parameters() if parameter.grad is not None}
    assert taught == {"box.2", "mask."}
    assert {name[:6] for name, p in heads.named_parameters() if p.grad is not None} & {"mask.0", "mask.1"} == set()

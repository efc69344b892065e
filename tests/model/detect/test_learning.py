"""Detectors learn to find the objects of a few pictures."""

import pytest
import torch
from torchvision.ops import box_iou

from swinv2.config import make_config
from swinv2.model import SwinBackbone
from swinv2.model.detect import create_detector

STEPS = 150


def painted(images, targets):
    """Each object in the colour of its class."""
    for image, target in zip(images, targets, strict=True):
        image.mul_(0.1)
        for mask, label in zip(target["masks"].bool(), target["labels"], strict=True):
            image[:, mask] = torch.eye(3)[label - 1][:, None] * 2 - 0.5
    return images


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "cascade_mask_rcnn", "htc_plus_plus"])
def test_a_detector_finds_what_it_was_shown(name, pictures):
    torch.manual_seed(0)
    backbone = SwinBackbone(make_config("swinv2_nano", window_size=4, image_size=64))
    fields = {"num_classes": 3, "pyramid_channels": 32, "box_features": 128, "box_samples": 64, "anchor_scales": (4.0,)}
    detector = create_detector(backbone, name, **fields).train()
    images, targets = pictures([(64, 64), (56, 64)], [2, 2], seed=3)
    images = painted(images, targets)
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 20) * (1 - step / STEPS)
        loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
    with torch.inference_mode():
        found = detector.eval()(images)
    for got, target in zip(found, targets, strict=True):
        sure = got["scores"] > 0.5
        overlaps = box_iou(target["boxes"], got["boxes"][sure])
        best, index = overlaps.max(1)
        assert best.min() > 0.7
        assert torch.equal(got["labels"][sure][index], target["labels"])
        assert (overlaps.amax(0) > 0.5).all()
        if detector.settings.masks:
            masks = got["masks"][sure][index, 0] > 0.5
            truth = target["masks"].bool()
            both = (masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))
            assert both.min() > 0.7

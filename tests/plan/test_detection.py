"""Plans of models with heads, against real steps and against what the configuration allows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.ops import batched_nms

from swinv2.config import SwinConfig, make_config
from swinv2.model.detect import detector_config
from swinv2.model.upernet import UperNetConfig
from swinv2.plan.bounds import AtBounds
from swinv2.plan.measuring import comparable, measured
from swinv2.plan.planning import plan
from swinv2.plan.settings import Settings
from swinv2.plan.work import Detection, Segmentation, Work

CONFIG = make_config("swinv2_nano", window_size=4, image_size=64, num_classes=5)
SHALLOW = make_config(
    "swinv2_nano", window_size=4, image_size=64, num_classes=5, embed_dim=16, depths=(1, 1), num_heads=(1, 2)
)
FEW: dict[str, Any] = {
    "num_classes": 5,
    "pyramid_channels": 64,
    "box_features": 64,
    "box_samples": 64,
    "proposals_before_nms": (200, 200),
    "proposals_after_nms": (100, 100),
}
SMALL: dict[str, Any] = {"image_size": (96, 128), "batch": 2}


def detection(name: str, objects: int = 24, config: SwinConfig = CONFIG, **heads: Any) -> Detection:
    """With more objects than boxes of a stage may stand for some, so that a real step is at its bounds too."""
    return Detection(config, detector_config(name, **FEW, **heads), objects)


def segmentation(**heads: Any) -> Segmentation:
    return Segmentation(CONFIG, UperNetConfig(channels=32, auxiliary_channels=16, **heads))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "rest"),
    [
        (detection("faster_rcnn"), {}),
        (detection("mask_rcnn"), {"precision": "bf16"}),
        (detection("cascade_mask_rcnn", semantic_classes=7), {}),
        (detection("htc_plus_plus"), {"checkpointing": "block", "attention": "sequential", "budget_mb": 1}),
        (segmentation(), {}),
        (segmentation(auxiliary_map=None), {"checkpointing": "block", "precision": "bf16"}),
    ],
    ids=lambda value: value.heads.__class__.__name__ if isinstance(value, Work) else None,
)
def test_the_peak_is_what_a_real_step_takes(work: Work, rest: dict[str, Any]) -> None:
    settings = Settings(**SMALL, device="cpu", **{"precision": "fp32", **rest})
    real, planned = measured(work, settings).peak, comparable(plan(work, settings))
    assert planned == pytest.approx(real, rel=0.05)


def test_heads_see_as_many_boxes_as_the_configuration_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    from swinv2.model.detect.heads import BoxHead, MaskHead

    boxes, masks = [], []
    monkeypatch.setattr(BoxHead, "forward", seeing(boxes, BoxHead.forward))
    monkeypatch.setattr(MaskHead, "forward", seeing(masks, MaskHead.forward))
    made = plan(detection("htc", config=SHALLOW), Settings(**SMALL))
    assert boxes == [2 * 64] * 3
    assert masks == [2 * 16] * (1 + 2 + 3)  # each stage's mask head after those before it
    assert made.peak.total > made.states.weights
    assert not torch.cuda.is_initialized()


def seeing(found: list[int], forward: Any) -> Any:
    def counted(self: Any, x: torch.Tensor, *rest: Any) -> Any:
        found.append(len(x))
        return forward(self, x, *rest)

    return counted


def test_objects_and_their_masks_count_as_inputs() -> None:
    images = 2 * 3 * 96 * 128 * 4
    few, many = (plan(detection("mask_rcnn", objects, SHALLOW), Settings(**SMALL)).input_bytes for objects in (10, 30))
    assert few == images + 2 * (10 * 96 * 128 + 512 + 512)  # masks, boxes, labels
    assert many - few == 2 * (20 * 96 * 128)
    assert plan(Work(SHALLOW), Settings(**SMALL)).input_bytes == images + 512


def test_shapes_that_depend_on_numbers_are_as_large_as_they_can_be() -> None:
    x = torch.empty(8, device="meta")
    with AtBounds():
        drawn = torch.zeros_like(x, dtype=torch.uint8)
        drawn[torch.empty(3, dtype=torch.long, device="meta")] = 1
        (places,) = torch.where(drawn)
        assert places.shape == x[drawn].shape == (3,)
        (either,) = torch.where(torch.cat([drawn, drawn | (x > 2)]))
        assert either.shape == (3 + 8,)
        levels = [torch.where(x == level)[0].numel() for level in range(3)]
        assert levels == [8, 0, 0]
        assert x[~(x > 2)].shape == (8,)


def test_what_is_taken_of_a_tensor_has_no_more_than_it() -> None:
    flags = torch.zeros(4, 8, dtype=torch.uint8, device="meta")
    with AtBounds():
        drawn = torch.zeros_like(flags)
        drawn[torch.empty(1, dtype=torch.long, device="meta")] = 1
        assert torch.where(drawn[torch.empty(6, dtype=torch.long, device="meta")] > 0)[0].shape == (1,)
        assert flags[flags != 255].shape == (32,)


@pytest.mark.parametrize("count", [100, 40_000])  # torchvision suppresses many boxes group by group
def test_checks_pass_and_nothing_is_suppressed(count: int) -> None:
    boxes, scores = torch.empty(count, 4, device="meta"), torch.empty(count, device="meta")
    with AtBounds():
        assert (boxes > 0).all()
        assert not (boxes > 0).any()
        assert (boxes > 0).all(1).shape == (boxes > 0).any(1).shape == (count,)
        assert batched_nms(boxes, scores, torch.empty(count, dtype=torch.long, device="meta"), 0.5).shape == (count,)

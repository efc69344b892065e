from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes

from swinv2.data.objects import boxes_of, cut, resample, select, visible


def target(boxes: list[list[float]], size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Rectangles on whole pixels, with their masks where the image's size is given."""
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    found: dict[str, Any] = {
        "boxes": corners,
        "labels": torch.arange(1, len(boxes) + 1),
        "area": (corners[:, 2:] - corners[:, :2]).prod(1),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.long),
        "image_id": 5,
    }
    if size:
        masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, corners.int().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        found["masks"] = masks
    return found


def test_boxes_hold_their_masks() -> None:
    masks = torch.rand(20, 9, 13, generator=torch.Generator().manual_seed(0)) < 0.03
    masks[4] = False
    masks[5] = True
    boxes = boxes_of(masks.to(torch.uint8))
    filled = masks.flatten(1).any(1)
    assert torch.equal(boxes[filled], masks_to_boxes(masks[filled]) + torch.tensor([0, 0, 1, 1]))
    assert boxes[5].tolist() == [0, 0, 13, 9]
    assert (boxes[4, 2:] - boxes[4, :2]).tolist() == [0, 0]
    assert boxes_of(torch.zeros(0, 9, 13, dtype=torch.uint8)).shape == (0, 4)


def test_selection_keeps_what_is_not_of_objects() -> None:
    chosen = select(target([[0, 0, 2, 2], [1, 1, 5, 4]], (6, 7)), torch.tensor([False, True]))
    assert (chosen["labels"].tolist(), chosen["image_id"], chosen["masks"].shape) == ([2], 5, (1, 6, 7))


@pytest.mark.parametrize(
    ("region", "size"), [((0, 0, 40, 30), (60, 80)), ((0, 0, 40, 30), (14, 16)), ((8, 6, 28, 21), (30, 40))]
)
def test_image_boxes_and_masks_stay_together(region: tuple[int, ...], size: tuple[int, int]) -> None:
    """A mask is resampled as the image is; sizes are such that no pixel lies half-way between two."""
    before = target([[10, 8, 25, 20]], (30, 40))
    noise = (torch.rand(30, 40, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8)
    speckled = before | {"masks": torch.stack([before["masks"][0], noise])}
    image, after = resample(Image.fromarray(noise.numpy()), speckled, region, size, "nearest")
    assert torch.equal(after["masks"][1], torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(size))
    assert (after["boxes"][0] - boxes_of(after["masks"])[0]).abs().max() <= 1
    assert after["area"].item() == pytest.approx((after["boxes"][:, 2:] - after["boxes"][:, :2]).prod().item())
    assert before["boxes"].tolist() == [[10, 8, 25, 20]]


def test_cut_objects_have_boxes_around_what_is_left() -> None:
    boxes = [[-2.0, 1, 4, 5], [3, 3, 12, 12], [20, 20, 25, 25], [1, 1, 4, 4]]
    found = cut(target(boxes), 8, 10)
    assert found["boxes"].tolist() == [[0, 1, 4, 5], [3, 3, 10, 8], [10, 8, 10, 8], [1, 1, 4, 4]]
    assert found["area"].tolist() == [16, 35, 0, 9]
    assert visible(found)["labels"].tolist() == [1, 2, 4]


def test_masks_tell_boxes_and_areas_of_cut_objects() -> None:
    """A mask may leave much of its box empty, and the cut may be there."""
    found = target([[1, 1, 9, 7]], (8, 10))
    found["masks"][0, :, :5] = 0
    moved = cut(found, 8, 10)
    assert (moved["boxes"].tolist(), moved["area"].tolist()) == ([[5, 1, 9, 7]], [24])


def test_lost_objects_are_left_out() -> None:
    found = target([[0, 0, 3, 3], [1, 1, 1.9, 4], [2, 2, 5, 5]], (6, 6))
    found["masks"][2] = 0
    assert visible(found)["labels"].tolist() == [1]
    assert len(visible(target([]))["boxes"]) == 0

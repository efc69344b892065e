from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.data.instaboost import InstaBoost, filled
from swinv2.data.objects import boxes_of

BACK = (30, 60, 90)
COLOURS = [(250, 40, 40), (40, 250, 40), (40, 40, 250)]
CENTRES = [(40, 40), (100, 45), (70, 90)]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def scene(centres: list[tuple[int, int]] = CENTRES, radius: int = 18) -> tuple[Image.Image, dict[str, Any]]:
    """Discs of one colour each on a plain ground of 140 x 120 pixels."""
    y, x = np.mgrid[:120, :140]
    pixels = np.full((120, 140, 3), BACK, dtype=np.uint8)
    masks = np.stack([(x - a) ** 2 + (y - b) ** 2 <= radius**2 for a, b in centres])
    for mask, colour in zip(masks, COLOURS, strict=False):
        pixels[mask] = colour
    stacked = torch.from_numpy(masks.astype(np.uint8))
    target = {
        "boxes": boxes_of(stacked),
        "labels": torch.arange(1, len(centres) + 1),
        "area": stacked.sum((1, 2)).float(),
        "iscrowd": torch.zeros(len(centres), dtype=torch.long),
        "masks": stacked,
    }
    return Image.fromarray(pixels), target


def test_objects_move_with_their_masks_and_leave_no_trace() -> None:
    boost = InstaBoost(1.0, colour=0)
    for _ in range(10):
        image, target = boost(*scene())
        pixels = np.asarray(image).astype(int)
        for number, mask in enumerate(target["masks"].numpy() > 0):
            apart = np.abs(pixels - COLOURS[number]).sum(2)
            assert apart[mask].max() <= 340  # at most half of the ground shines through at the edge
            assert np.median(apart[mask]) < 5
            assert (apart[~mask] < 60).sum() == 0
        elsewhere = np.abs(pixels - BACK).sum(2)[~(target["masks"].numpy() > 0).any(0)]
        assert np.median(elsewhere) < 5
        assert (elsewhere > 200).mean() < 0.01
        assert torch.equal(target["boxes"], boxes_of(target["masks"]))
        assert target["area"].tolist() == target["masks"].sum((1, 2)).tolist()


def test_moves_are_as_small_as_the_recipe_says() -> None:
    """A fifteenth of the width and height, factors from 0.8 to 1.2; half a pixel is lost on the grid."""
    boost, (image, before) = InstaBoost(1.0), scene()
    shifts, factors = [], []
    for _ in range(40):
        after = boost(image, before)[1]["boxes"]
        shifts.append((after[:, :2] + after[:, 2:] - before["boxes"][:, :2] - before["boxes"][:, 2:]) / 2)
        factors.append((after[:, 2:] - after[:, :2]) / (before["boxes"][:, 2:] - before["boxes"][:, :2]))
    most = 37 / 15
    assert 0.7 * most < torch.stack(shifts).abs().max() <= most + 1
    assert 0.75 < torch.stack(factors).min() < 0.86
    assert 1.14 < torch.stack(factors).max() < 1.26


def test_nothing_moves_where_all_is_switched_off() -> None:
    image, target = scene()
    still = InstaBoost(1.0, scale=(1.0, 1.0), shift=1e9, turn=0.0, colour=0.0)(image, target)
    assert np.abs(np.asarray(still[0]).astype(int) - np.asarray(image)).max() <= 1
    assert torch.equal(still[1]["masks"], target["masks"])
    assert InstaBoost(0.0)(image, target) == (image, target)


def test_half_of_the_images_stay_as_they_are() -> None:
    image, target = scene()
    same = [InstaBoost(0.5)(image, target)[0] is image for _ in range(60)]
    assert 15 < sum(same) < 45


def test_an_object_turns_by_its_angle() -> None:
    """A bar of 90 x 10 pixels is as high as its ends are far apart."""
    mask = torch.zeros(1, 120, 140, dtype=torch.uint8)
    mask[0, 55:65, 25:115] = 1
    target = {
        "masks": mask,
        "boxes": boxes_of(mask),
        "labels": torch.ones(1),
        "area": torch.ones(1),
        "iscrowd": torch.zeros(1),
    }
    image = Image.fromarray(mask[0].numpy() * 255)
    heights = []
    for _ in range(20):
        after = InstaBoost(1.0, scale=(1.0, 1.0), shift=1e9, turn=20.0, colour=0.0)(image, target)[1]
        heights.append((after["boxes"][0, 3] - after["boxes"][0, 1]).item())
        assert after["area"].item() == pytest.approx(900, rel=0.03)
    assert 30 < max(heights) <= 90 * np.sin(np.radians(20)) + 10 + 1
    assert min(heights) < 16


@pytest.mark.parametrize(("centre", "side"), [((5, 60), 0), ((70, 4), 1), ((136, 60), 2), ((70, 117), 3)])
def test_what_the_edge_cuts_stays_at_the_edge(centre: tuple[int, int], side: int) -> None:
    image, target = scene([centre])
    edge = (0, 0, 140, 120)[side]
    for _ in range(20):
        boosted, after = InstaBoost(1.0, colour=0)(image, target)
        assert after["boxes"][0, side] == edge
        line = [np.asarray(boosted)[:, 0], np.asarray(boosted)[0], np.asarray(boosted)[:, -1], np.asarray(boosted)[-1]]
        assert (np.abs(line[side].astype(int) - COLOURS[0]).sum(1) < 10).sum() >= 25


def test_hidden_parts_are_no_part_of_a_mask() -> None:
    """Of overlapping objects, the smaller is on top; one that is wholly hidden is no object any more."""
    target = scene([(60, 60), (64, 60)])[1]
    for _ in range(5):
        masks = InstaBoost(1.0)(scene()[0], target)[1]["masks"]
        assert masks.sum(0).max() == 1


def test_gray_images() -> None:
    image, target = scene()
    boosted, after = InstaBoost(1.0)(image.convert("L"), target)
    assert (boosted.mode, boosted.size, len(after["boxes"])) == ("L", (140, 120), 3)


def test_holes_take_the_colours_around_them() -> None:
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    pixels = torch.stack([x, y, torch.full_like(x, 7.0)])
    hole = ((x - 40) ** 2 + (y - 30) ** 2) < 15**2
    result = filled(torch.where(hole, torch.tensor(999.0), pixels), hole)
    assert torch.equal(result[:, ~hole], pixels[:, ~hole])
    assert (result[2] == 7).all() or (result[2] - 7).abs().max() < 1e-4
    assert (result[:2] - pixels[:2]).abs().max() < 15
    assert filled(pixels, torch.ones(60, 80, dtype=torch.bool)).isfinite().all()


def test_a_semantic_map_is_not_known_where_objects_came_or_went() -> None:
    image, target = scene()
    painted = (target["masks"] * torch.arange(1, 4, dtype=torch.uint8)[:, None, None]).amax(0)
    _, moved = InstaBoost(1.0)(image, target | {"semantic": painted})
    after = (moved["masks"] * moved["labels"].to(torch.uint8)[:, None, None]).amax(0)
    stayed = after == painted
    assert 0 < (~stayed).sum() < painted.numel() / 10
    assert torch.equal(moved["semantic"][stayed], painted[stayed])
    assert (moved["semantic"][~stayed] == 255).all()

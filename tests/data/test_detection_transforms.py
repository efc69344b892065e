from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.data.detection_options import DetectionAugmentOptions
from swinv2.data.detection_transforms import Flip, Joint, Resize, ScaleJitter, eval_transform, fitted, train_transform
from swinv2.data.objects import boxes_of
from swinv2.preprocessing import Preprocessing

PLAIN = Preprocessing(size=(240, 400), mean=(0.0,) * 3, std=(1 / 255,) * 3, interpolation="nearest")
"""The input is the pixels from 0 to 255."""
BOXES = [[16, 24, 80, 100], [120, 40, 176, 72], [100, 112, 188, 144]]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def scene(masks: bool = True) -> tuple[Image.Image, dict[str, Any]]:
    """An image of 192 x 144 pixels with three rectangles, each in a gray of its own: 50, 100 and 150."""
    pixels = np.zeros((144, 192, 3), dtype=np.uint8)
    for number, (left, top, right, bottom) in enumerate(BOXES, start=1):
        pixels[top:bottom, left:right] = 50 * number
    boxes = torch.tensor(BOXES, dtype=torch.float32)
    target: dict[str, Any] = {
        "boxes": boxes,
        "labels": torch.tensor([1, 2, 3]),
        "area": (boxes[:, 2:] - boxes[:, :2]).prod(1),
        "iscrowd": torch.zeros(3, dtype=torch.long),
        "image_id": 1,
        "size": (144, 192),
    }
    if masks:
        target["masks"] = torch.stack(
            [torch.from_numpy((pixels[:, :, 0] == 50 * n).astype(np.uint8)) for n in (1, 2, 3)]
        )
    return Image.fromarray(pixels), target


def check(pixels: torch.Tensor, target: dict[str, Any], exact: bool = False) -> None:
    """The objects are where they are painted; where a pixel lies between two, Pillow may choose the other one."""
    for n, label in enumerate(target["labels"].tolist()):
        painted = (pixels[0].round() == 50 * label).to(torch.uint8)
        assert painted.any()
        around = boxes_of(painted[None])[0]
        if "masks" in target:
            mask = target["masks"][n]
            assert (mask & painted).sum() >= (1 if exact else 0.9) * (mask | painted).sum()
        assert (target["boxes"][n] - around).abs().max() <= (0 if exact else 1.5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((600, 800), (800, 1067)), ((800, 600), (1067, 800)), ((100, 1000), (133, 1333)), ((1, 1), (800, 800)),
     ((1, 5000), (1, 1333)), ((800, 1333), (800, 1333))],
)  # fmt: skip
def test_short_side_unless_the_long_one_is_too_long(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted(*size, 800, 1333) == expected


@pytest.mark.parametrize("masks", [True, False])
def test_short_sides_are_drawn_in_steps(masks: bool) -> None:
    joint = Joint([Resize(160, 240, 40, 280, "nearest")], PLAIN)
    sizes = set()
    for _ in range(40):
        pixels, target = joint(*scene(masks))
        check(pixels, target)
        sizes.add(tuple(pixels.shape[1:]))
    assert sizes == {(160, 213), (200, 267), (210, 280)}


@pytest.mark.parametrize("masks", [True, False])
def test_scale_jitter_crops_what_is_larger(masks: bool) -> None:
    joint = train_transform(
        DetectionAugmentOptions(resize="jitter", jitter_size=(200, 160), jitter_scale=(0.3, 3.5), hflip=0.5), PLAIN
    )
    scales, counts = [], set()
    for _ in range(60):
        pixels, target = joint(*scene(masks))
        assert pixels.shape[1] <= 200
        assert pixels.shape[2] <= 160
        check(pixels, target)
        assert (target["boxes"][:, 2:] - target["boxes"][:, :2] >= 1).all()
        counts.add(len(target["labels"]))
        scales.append(pixels[0].numel())
        if masks:
            assert target["masks"].shape[1:] == pixels.shape[1:]
            assert target["masks"].flatten(1).any(1).all()
    assert counts >= {1, 2, 3}
    assert max(scales) == 200 * 160 > 5 * min(scales)


def test_scale_jitter_reaches_all_of_the_image() -> None:
    """At twice the size a crop is a quarter; 200 of them show every row and column, those at the edges seldom."""
    seen = torch.zeros(144, 192)
    positions = np.arange(144 * 192, dtype=np.int32).reshape(144, 192)
    coded = np.stack([positions % 256, positions // 256, positions * 0], axis=2).astype(np.uint8)
    step = ScaleJitter((144, 192), (2.0, 2.0), "nearest")
    for _ in range(200):
        image, _target = step(Image.fromarray(coded), scene()[1])
        assert image.size == (192, 144)
        values = np.asarray(image).astype(int)
        seen.view(-1)[torch.from_numpy(values[:, :, 0] + 256 * values[:, :, 1]).view(-1)] = 1
    assert seen[:, 8:-8].any(0).all()
    assert seen[8:-8].any(1).all()


def test_what_a_crop_cuts_has_boxes_around_what_is_left() -> None:
    step = ScaleJitter((144, 192), (1.8, 1.8), "nearest")
    cut = 0
    for _ in range(30):
        image, target = step(*scene())
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
        kept = (target["masks"] != 0).flatten(1).any(1)
        check(pixels, {name: target[name][kept] for name in ("boxes", "labels", "masks")})
        assert torch.equal(target["boxes"], boxes_of(target["masks"]))
        assert target["area"].tolist() == target["masks"].sum((1, 2)).tolist()
        cut += int((~kept).sum())
    assert cut > 0


def test_mirrored_images_have_mirrored_objects() -> None:
    pixels, target = Joint([Flip(1.0)], PLAIN)(*scene())
    check(pixels, target, exact=True)
    assert target["boxes"][0].tolist() == [112, 24, 176, 100]
    twice = Joint([Flip(1.0), Flip(1.0)], PLAIN)(*scene())
    assert torch.equal(twice[1]["boxes"], scene()[1]["boxes"])
    flips = [Joint([Flip(0.5)], PLAIN)(*scene())[1]["boxes"][0, 0].item() for _ in range(40)]
    assert 8 < flips.count(112) < 32


@pytest.mark.parametrize("portrait", [False, True])
def test_evaluation_fits_the_size_lying_or_standing(portrait: bool) -> None:
    image, target = scene()
    if portrait:
        image = image.transpose(Image.Transpose.TRANSPOSE)
        target = target | {"boxes": target["boxes"][:, [1, 0, 3, 2]], "masks": target["masks"].transpose(1, 2)}
    pixels, moved = eval_transform(PLAIN)(image, target)
    assert tuple(pixels.shape[1:]) == ((320, 240) if portrait else (240, 320))
    check(pixels, moved)
    assert moved["size"] == (144, 192)


def test_evaluation_keeps_objects_however_small() -> None:
    tiny = Preprocessing(size=(2, 3), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert len(eval_transform(tiny)(*scene(masks=False))[1]["boxes"]) == 3


def test_colours_change_and_objects_do_not() -> None:
    augment = DetectionAugmentOptions(short_side=(144, 144), hflip=0, color_jitter=0.4)
    pixels, target = train_transform(augment, PLAIN)(*scene())
    assert torch.equal(target["boxes"], scene()[1]["boxes"])
    assert not torch.equal(pixels, Joint([], PLAIN)(*scene())[0])


@pytest.mark.parametrize("resize", ["short_side", "jitter"])
def test_augmentation_is_a_function_of_torchs_random_state(resize: Any) -> None:
    augment = DetectionAugmentOptions(
        resize=resize, short_side=(30, 60), short_step=1, jitter_size=(40, 40), color_jitter=0.3, instaboost=0.9
    )
    joint = train_transform(augment, PLAIN)
    results = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        np.random.seed(len(results))
        results.append(joint(*scene()))
    (first, boxes), (other, _), (again, same) = results
    assert torch.equal(first, again)
    assert torch.equal(boxes["boxes"], same["boxes"])
    assert first.shape != other.shape or not torch.equal(first, other)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_one_pixel_and_any_channels(mode: str) -> None:
    channels = len(mode)
    preprocessing = Preprocessing(size=(8, 8), mean=(0.5,) * channels, std=(0.5,) * channels)
    target = {
        "boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([1]), "area": torch.ones(1),
        "iscrowd": torch.tensor([0]), "masks": torch.ones(1, 1, 1, dtype=torch.uint8),
    }  # fmt: skip
    image = Image.new(mode, (1, 1), 200 if mode == "L" else (200,) * channels)
    for resize in ("short_side", "jitter"):
        augment = DetectionAugmentOptions(
            resize=resize, short_side=(8, 8), jitter_size=(8, 8), jitter_scale=(1, 1), instaboost=1
        )
        pixels, moved = train_transform(augment, preprocessing)(image, target)
        assert pixels.shape == (channels, 8, 8)
        assert moved["boxes"].tolist() == [[0, 0, 8, 8]]
        assert moved["masks"].all()


def test_an_image_without_objects_stays_one() -> None:
    empty = {name: value[:0] for name, value in scene()[1].items() if isinstance(value, torch.Tensor)}
    augment = DetectionAugmentOptions(resize="jitter", jitter_size=(40, 40), instaboost=1.0)
    for _ in range(5):
        pixels, target = train_transform(augment, PLAIN)(scene()[0], empty)
        assert max(pixels.shape[1:]) <= 40
        assert (target["boxes"].shape, target["masks"].shape) == ((0, 4), (0, *pixels.shape[1:]))


@pytest.mark.parametrize("masks", [True, False])
def test_semantic_maps_go_where_their_pixels_go(masks: bool) -> None:
    """Their values are painted too."""
    joint = train_transform(
        DetectionAugmentOptions(resize="jitter", jitter_size=(200, 160), jitter_scale=(0.3, 3.5), hflip=0.5), PLAIN
    )
    for _ in range(20):
        image, target = scene(masks)
        painted = torch.from_numpy(np.array(image)[:, :, 0] // 50)
        pixels, moved = joint(image, target | {"semantic": painted})
        assert moved["semantic"].shape == pixels.shape[1:]
        assert (moved["semantic"] == pixels[0].round() / 50).float().mean() > 0.98

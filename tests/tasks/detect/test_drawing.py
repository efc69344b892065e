from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.data.detection_options import DetectionDataOptions
from swinv2.data.rle import encode
from swinv2.data.sources.coco import open_coco
from swinv2.tasks.detect.drawing import LONG_SIDE, class_colour, draw_detections

CLASSES = ("car", "dog", "owl")


def objects(
    boxes: list[list[float]], labels: list[int], size: tuple[int, int] | None = None, **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"boxes": torch.tensor(boxes).float().reshape(-1, 4), "labels": torch.tensor(labels)}
    if size:
        masks = np.zeros((len(boxes), *size), dtype=bool)
        for mask, (left, top, right, bottom) in zip(masks, np.array(boxes, dtype=int), strict=True):
            mask[top:bottom, left:right] = True
        found["rles"] = [encode(mask) for mask in masks]
    return found | more


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    codes = np.unique(np.asarray(picture).astype(np.int64) @ [65536, 256, 1])
    return {(code // 65536, code // 256 % 256, code % 256) for code in codes.tolist()}


def test_boxes_masks_and_legend_have_the_colours_of_their_classes() -> None:
    image = Image.new("RGB", (300, 200), (128, 128, 128))
    found = objects([[30, 60, 90, 120], [150, 80, 250, 180]], [1, 3], (200, 300), scores=torch.tensor([0.9, 0.8]))
    picture = draw_detections(image, found, CLASSES)
    zoom = LONG_SIDE / 300
    assert picture.width == LONG_SIDE
    assert picture.height > 200 * zoom
    pixels = np.asarray(picture).astype(int)
    for (left, top, right, bottom), label in zip(found["boxes"].tolist(), (1, 3), strict=True):
        colour = np.array(class_colour(label))
        assert (pixels[round(bottom * zoom), round((left + right) / 2 * zoom)] == colour).all()
        middle = pixels[round((top + bottom) / 2 * zoom), round((left + right) / 2 * zoom)]
        assert np.abs(middle - (0.6 * 128 + 0.4 * colour)).max() <= 2
    legend = picture.crop((0, round(200 * zoom), LONG_SIDE, picture.height))
    assert {class_colour(1), class_colour(3)} <= colours(legend)
    assert class_colour(2) not in colours(picture)
    assert (np.asarray(image) == 128).all()


def test_unlikely_objects_are_not_drawn() -> None:
    image = Image.new("RGB", (60, 40), (10, 10, 10))
    found = objects([[5, 5, 20, 30], [30, 5, 50, 30]], [1, 2], scores=torch.tensor([0.9, 0.3]))
    drawn = colours(draw_detections(image, found, CLASSES))
    assert class_colour(1) in drawn
    assert class_colour(2) not in drawn
    assert class_colour(2) in colours(draw_detections(image, found, CLASSES, threshold=0.3))
    nothing = draw_detections(image, found, CLASSES, threshold=0.95)
    assert colours(nothing) == {(10, 10, 10)}


def test_true_objects_have_no_scores() -> None:
    image = Image.new("RGB", (60, 40))
    true = objects([[5, 20, 40, 35]], [1])
    with_score = draw_detections(image, {**true, "scores": torch.ones(1)}, CLASSES)
    assert np.asarray(draw_detections(image, true, CLASSES)).tolist() != np.asarray(with_score).tolist()


def test_classes_are_told_apart() -> None:
    palette = np.array([class_colour(label) for label in range(1, 21)])
    apart = np.abs(palette[:, None] - palette[None]).sum(2) + 999 * np.eye(20)
    assert apart.min() > 30


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (7, 900)])
def test_any_image_can_be_drawn(mode: str, size: tuple[int, int]) -> None:
    found = objects([[0, 0, *size]], [2], size[::-1], scores=torch.ones(1))
    picture = draw_detections(Image.new(mode, size), found, CLASSES)
    assert picture.mode == "RGB"
    assert picture.width >= size[0]


def test_many_objects_and_long_or_odd_names() -> None:
    """The legend takes as many lines as it needs."""
    classes = tuple(f"a rather long name of class {n} \udcff" for n in range(80))
    boxes = [[n % 10 * 30, n // 10 * 20, n % 10 * 30 + 20, n // 10 * 20 + 12] for n in range(80)]
    picture = draw_detections(Image.new("RGB", (320, 180)), objects(boxes, list(range(1, 81))), classes)
    assert picture.height > picture.width * 180 / 320 + 300
    assert class_colour(80) in colours(picture.crop((0, picture.height - 60, picture.width, picture.height)))


@pytest.mark.realdata
def test_real_objects_are_drawn(real_data: Path) -> None:
    source = open_coco(DetectionDataOptions(path=str(real_data / "camvid")), "val")
    target = source.target(3, masks=True)
    true = target | {"rles": [encode(mask) for mask in target["masks"].numpy()]}
    picture = draw_detections(source.image(3), true, source.classes)
    assert {class_colour(label) for label in target["labels"].tolist()} <= colours(picture)

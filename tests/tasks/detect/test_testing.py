from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage
from torch import Tensor
from torchvision.ops import batched_nms

from swinv2.benchmark.memory import usage
from swinv2.data.detection import eval_samples
from swinv2.data.detection_options import DetectionDataOptions, DetectionTestOptions
from swinv2.data.loading import make_loader
from swinv2.data.rle import decode
from swinv2.data.sources.coco import open_coco
from swinv2.model.detect.pasting import binary_masks
from swinv2.preprocessing import Preprocessing
from swinv2.tasks.detect.metrics import DetectionMetrics
from swinv2.tasks.detect.testing import (
    Detections,
    Frame,
    View,
    coco_results,
    coded,
    detect,
    merge,
    originals,
    tiles,
    to_original,
    views,
)

PLAIN = Preprocessing(size=(120, 200), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear")
BOXES = [[12, 10, 32, 40], [60, 20, 110, 60], [130, 50, 140, 60]]
LABELS = [1, 2, 3]


def bright(images: list[Tensor], masks: bool = True) -> list[dict[str, Tensor]]:
    """A detector of bright regions in each colour channel, which is their class; large ones score higher."""
    results = []
    for image in images:
        boxes, labels, scores, shapes = [], [], [], []
        for channel, plane in enumerate(image):
            regions, _ = ndimage.label((plane > 0.5).numpy())
            for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
                boxes.append([columns.start, rows.start, columns.stop, rows.stop])
                labels.append(channel + 1)
                scores.append(min((regions == number).sum() / 5000, 1.0))
                own = torch.from_numpy(np.where(regions[rows, columns] == number, 0.9, 0.1)).float()
                shapes.append(torch.nn.functional.interpolate(own[None, None], (28, 28), mode="area")[0])
        found = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.long),
            "scores": torch.tensor(scores, dtype=torch.float32),
        }
        stacked = torch.stack(shapes) if shapes else torch.zeros(0, 1, 28, 28)
        results.append(found | ({"masks": stacked} if masks else {}))
    return results


def boxes_alone(images: list[Tensor]) -> list[dict[str, Tensor]]:
    return bright(images, masks=False)


def scene(boxes: list[list[int]] = BOXES, labels: list[int] = LABELS, size: tuple[int, int] = (160, 90)) -> Image.Image:
    """Rectangles, each bright in the channel of its class."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        pixels[top:bottom, left:right, label - 1] = 255
    return Image.fromarray(pixels)


def nms(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    kept = batched_nms(boxes, scores, labels, 0.5)
    return kept, scores[kept]


def by_label(detections: Detections) -> dict[int, list[float]]:
    assert len(set(detections["labels"].tolist())) == len(detections["labels"])
    return dict(zip(detections["labels"].tolist(), detections["boxes"].tolist(), strict=True))


def check(detections: Detections, tolerance: float = 1.0) -> None:
    """The objects of `scene` and no others, with their masks."""
    found = by_label(detections)
    assert sorted(found) == LABELS
    for label, box in zip(LABELS, BOXES, strict=True):
        assert np.abs(np.array(found[label]) - box).max() <= tolerance
    for label, rle in zip(detections["labels"].tolist(), detections["rles"], strict=True):
        left, top, right, bottom = BOXES[label - 1]
        true = np.zeros((90, 160), dtype=bool)
        true[top:bottom, left:right] = True
        mask = decode(rle) > 0
        assert (mask & true).sum() / (mask | true).sum() > 0.8


@pytest.mark.parametrize(
    "options",
    [
        DetectionTestOptions(),
        DetectionTestOptions(flip=True),
        DetectionTestOptions(short_sides=(60, 90, 180), long_side=400),
        DetectionTestOptions(short_sides=(90, 180), flip=True),
        DetectionTestOptions(short_sides=(500,), long_side=160),
        DetectionTestOptions(tile=64, overlap=0.5),
        DetectionTestOptions(tile=64, overlap=0.5, short_sides=(60, 120), flip=True),
        DetectionTestOptions(short_sides=(90, 270), ranges=((20, 1e9), (0, 20))),
    ],
)
def test_objects_are_found_where_they_are(options: DetectionTestOptions) -> None:
    found = detect(bright, scene(), options, PLAIN, nms)
    check(found, tolerance=2.0)
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)


def test_a_mirrored_look_is_turned_back() -> None:
    def second_look(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(3, 6), scores[3:]

    check(detect(bright, scene(), DetectionTestOptions(flip=True), PLAIN, second_look), tolerance=2.0)


@pytest.mark.parametrize("options", [DetectionTestOptions(flip=True), DetectionTestOptions(tile=70, overlap=0.7)])
def test_shapes_are_found_by_every_look(options: DetectionTestOptions) -> None:
    """An L, by each of the looks in turn."""
    image = scene([[100, 20, 110, 60], [100, 50, 140, 60]], [1, 1])
    true, seen = np.asarray(image)[..., 0] > 0, []

    def only(look: int, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(boxes))
        return torch.tensor([look]), scores[[look]]

    look = 0
    while not seen or look < seen[0]:
        mask = decode(detect(bright, image, options, PLAIN, partial(only, look))["rles"][0]) > 0
        assert (mask & true).sum() / (mask | true).sum() > 0.85
        look += 1
    assert look > 1


def test_a_detector_of_boxes_gives_no_masks() -> None:
    found = detect(boxes_alone, scene(), DetectionTestOptions(flip=True), PLAIN, nms)
    assert "rles" not in found
    assert len(found["boxes"]) == 3


@pytest.mark.parametrize("size", [(90, 160), (180, 320), (45, 80), (100, 100)])
def test_predictions_return_to_the_originals_pixels(size: tuple[int, int]) -> None:
    resized = scene().resize((size[1], size[0]), Image.Resampling.NEAREST)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
    found = coded(to_original(bright([pixels])[0], size, Frame(0, 0, 90, 160)), (90, 160))
    check(found, tolerance=0 if size == (90, 160) else 2)
    assert [rle["size"] for rle in found["rles"]] == [[90, 160]] * 3


def test_masks_are_interpolated_once_whatever_the_input() -> None:
    """The codes are of the masks as they would be pasted into the original at once."""
    masks = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[3.2, 4.1, 27.5, 20.3], [0, 0, 31, 23]])
    found = {"boxes": boxes, "labels": torch.tensor([1, 1]), "scores": torch.ones(2), "masks": masks}
    ours = coded(to_original(found, (23, 31), Frame(0, 0, 61, 70)), (61, 70))
    theirs = binary_masks(masks, boxes * torch.tensor([70 / 31, 61 / 23]).repeat(2), (61, 70), 0.5)
    assert [decode(rle).tolist() for rle in ours["rles"]] == theirs.int().tolist()
    assert 0.05 < theirs.float().mean() < 0.6


def test_memory_of_masks_is_that_of_their_boxes() -> None:
    """Fifty small objects of an image of 6 million pixels, in which their masks would be 1200 MB."""
    boxes = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) * 30 + torch.tensor([900, 500, 930, 530])
    found = {"boxes": boxes, "labels": torch.ones(50), "scores": torch.ones(50), "masks": torch.ones(50, 1, 28, 28)}
    peak = usage(lambda: coded(found, (2000, 3000)), torch.device("cpu")).peak
    assert peak < 300_000


def test_boxes_beyond_the_image_are_cut() -> None:
    found = {
        "boxes": torch.tensor([[-5.0, 2, 30, 50], [40, 3, 45, 9]]),
        "labels": torch.tensor([1, 1]),
        "scores": torch.tensor([0.9, 0.8]),
    }
    detections = to_original(found, (20, 30), Frame(0, 0, 40, 60))
    assert detections["boxes"].tolist() == [[0, 4, 60, 40], [60, 6, 60, 18]]


def test_views_are_all_sizes_plain_and_mirrored() -> None:
    options = DetectionTestOptions(short_sides=(400, 800), long_side=1600, flip=True, ranges=((96, 1e5), (0, 256)))
    assert views(options, PLAIN) == [
        View(400, 1600, False, 96, 1e5), View(400, 1600, True, 96, 1e5),
        View(800, 1600, False, 0, 256), View(800, 1600, True, 0, 256),
    ]  # fmt: skip
    assert views(DetectionTestOptions(), PLAIN) == [View(120, 200)]


def test_a_size_that_no_look_is_for_is_not_found() -> None:
    """The sizes of the scene's objects are 24.5, 44.7 and 10."""
    options = DetectionTestOptions(short_sides=(90, 180), ranges=((40, 100), (0, 20)))
    assert sorted(by_label(detect(bright, scene(), options, PLAIN, nms))) == [2, 3]


@pytest.mark.parametrize(
    ("size", "side", "overlap"), [((90, 160), 64, 0.2), ((64, 65), 64, 0.0), ((1000, 30), 100, 0.5), ((7, 7), 3, 0.9)]
)
def test_tiles_cover_the_image_and_overlap(size: tuple[int, int], side: int, overlap: float) -> None:
    frames = tiles(*size, side, overlap)
    covered = np.zeros(size, dtype=int)
    for top, left, height, width in frames:
        assert (height, width) == (min(side, size[0]), min(side, size[1]))
        covered[top : top + height, left : left + width] += 1
    assert covered.min() >= 1
    for axis, extent in ((0, 2), (1, 3)):
        starts = sorted({frame[axis] for frame in frames})
        steps = np.diff(starts)
        assert (steps <= max(frames[0][extent] * (1 - overlap), 1) + 1).all()
        assert starts[-1] + frames[0][extent] == size[axis]


def test_images_no_larger_than_a_tile_have_none() -> None:
    assert tiles(64, 64, 64, 0.2) == tiles(500, 500, 0, 0.2) == []


def test_small_objects_of_large_images_are_found_in_tiles() -> None:
    """In the whole image, at a twentieth of its size, specks are lost; the wide bar is cut by every tile."""
    specks = [[x, y, x + 12, y + 12] for x in range(30, 980, 95) for y in range(25, 460, 95)]
    image = scene([*specks, [100, 250, 900, 262]], [1] * len(specks) + [2], (1000, 500))
    small = Preprocessing(size=(25, 50), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear")
    once = detect(boxes_alone, image, DetectionTestOptions(max_detections=1000), small, nms)
    assert (once["labels"] == 1).sum() == 0
    options = DetectionTestOptions(tile=200, overlap=0.3, short_sides=(200,), max_detections=1000)
    found = detect(bright, image, options, small, nms)
    truth = torch.tensor(specks, dtype=torch.float32)
    ours = found["boxes"][found["labels"] == 1]
    assert len(ours) == len(specks)
    assert torch.cdist(ours, truth).min(1).values.max() <= 1
    bars = found["boxes"][found["labels"] == 2]
    assert len(bars) == 1
    assert (bars[0] - torch.tensor([100, 250, 900, 262])).abs().max() < 12
    row = found["labels"].tolist().index(1)
    left, top, right, bottom = found["boxes"][row].int().tolist()
    mask = decode(found["rles"][row])
    assert mask.shape == (500, 1000)
    assert mask.sum() == mask[top - 1 : bottom + 1, left - 1 : right + 1].sum() == 144


def test_merging_takes_the_scores_of_the_suppression() -> None:
    parts: list[Detections] = [
        {
            "boxes": torch.tensor([[0.0, 0, 9, 9]]),
            "labels": torch.tensor([n]),
            "scores": torch.tensor([score]),
            "masks": torch.full((1, 1, 28, 28), float(n)),
        }
        for n, score in ((1, 0.9), (2, 0.8), (3, 0.7))
    ]

    def halve_first(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        assert (boxes.shape, scores.tolist(), labels.tolist()) == ((3, 4), pytest.approx([0.9, 0.8, 0.7]), [1, 2, 3])
        return torch.tensor([0, 2]), torch.tensor([0.45, 0.7])

    merged = merge(parts, halve_first, 5)
    assert merged["labels"].tolist() == merged["masks"][:, 0, 0, 0].tolist() == [3, 1]
    assert merged["scores"].tolist() == pytest.approx([0.7, 0.45])
    assert merge(parts, halve_first, 1)["labels"].tolist() == [3]


@pytest.mark.parametrize("options", [DetectionTestOptions(), DetectionTestOptions(tile=50, flip=True)])
def test_nothing_found_is_no_error(options: DetectionTestOptions) -> None:
    found = detect(bright, Image.new("RGB", (120, 90)), options, PLAIN, nms)
    assert (found["boxes"].shape, found["scores"].shape, found["rles"]) == ((0, 4), (0,), [])
    assert coco_results(found, 7, (3,)) == []


def test_an_image_of_one_pixel() -> None:
    found = detect(bright, Image.new("RGB", (1, 1), (255, 0, 0)), DetectionTestOptions(flip=True), PLAIN, nms)
    assert found["boxes"].tolist() == [[0, 0, 1, 1]]
    assert decode(found["rles"][0]).tolist() == [[1]]


def test_results_are_cocos(coco_file: Callable[..., Path], tmp_path: Path) -> None:
    """pycocotools loads them for the images and category ids of the data set."""
    path = coco_file(images={"a.png": (160, 90)}, categories={4: "red", 17: "green", 90: "blue"})
    found = detect(bright, scene(), DetectionTestOptions(), PLAIN, nms)
    (tmp_path / "found.json").write_text(json.dumps(coco_results(found, 1, (4, 17, 90))))
    results = COCO(str(path)).loadRes(str(tmp_path / "found.json"))
    entries = results.loadAnns(results.getAnnIds())
    assert sorted(entry["category_id"] for entry in entries) == [4, 17, 90]
    for entry in entries:
        left, top, right, bottom = BOXES[(4, 17, 90).index(entry["category_id"])]
        assert entry["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=2)
        assert 0 < entry["score"] <= 1
        assert results.annToMask(entry).sum() == pytest.approx((right - left) * (bottom - top), rel=0.2)
    assert "segmentation" not in coco_results({**found, "rles": []}, 1, (4, 17, 90))[0]


def test_a_loader_of_batches_is_measured(coco_file: Callable[..., Path], tmp_path: Path) -> None:
    """From files to AP: a detector that finds every object has AP 1 at every size of its input."""
    annotations: list[dict[str, Any]] = [
        {"image_id": n, "category_id": label, "bbox": [left, top, right - left, bottom - top]}
        | {"segmentation": [[left, top, right, top, right, bottom, left, bottom]]}
        for n in (1, 2, 3)
        for label, (left, top, right, bottom) in zip(LABELS, BOXES, strict=True)
    ]
    images = {f"{n}.png": (160, 90) for n in range(3)}
    path = coco_file(images=images, annotations=annotations, categories={1: "red", 2: "green", 3: "blue"})
    for name in images:
        scene().save(tmp_path / "images" / name)
    source = open_coco(DetectionDataOptions(path=str(path)), "all")
    metrics = DetectionMetrics(source, masks=True)
    preprocessing = Preprocessing(size=(180, 320), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="nearest")
    for batch in make_loader(eval_samples(source, preprocessing), batch_size=2, shuffle=False):
        metrics.update(batch.indices.tolist(), originals(bright(batch.images), batch))  # type: ignore[attr-defined, arg-type]
    assert metrics.images() == 3
    assert metrics.scalars()["box_ap"] == metrics.scalars()["mask_ap"] == pytest.approx(1)

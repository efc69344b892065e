from __future__ import annotations

import contextlib
import io
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from swinv2.data.detection_options import DetectionDataOptions
from swinv2.data.rle import encode
from swinv2.data.sources.coco import CocoSource, open_coco
from swinv2.tasks.detect.metrics import DetectionMetrics
from swinv2.tasks.detect.testing import Detections

SIDE = 160
CATEGORIES = {2: "car", 5: "dog", 9: "owl"}


def disc(box: list[float]) -> dict[str, Any]:
    """The ellipse in a box, as a mask."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    left, top, width, height = box
    return encode(((x - left - width / 2) / width) ** 2 + ((y - top - height / 2) / height) ** 2 <= 0.25)


def random_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Boxes of all of COCO's sizes."""
    sides = random.uniform(6, 150, (count, 1)) * random.uniform(0.7, 1, (count, 2))
    return np.concatenate([random.uniform(0, 1, (count, 2)) * (SIDE - sides), sides], axis=1).round(1)


@pytest.fixture
def source(coco_file: Callable[..., Path]) -> CocoSource:
    """Twelve images, some without objects, some with crowds; the last class has no objects."""
    random = np.random.default_rng(0)
    annotations = []
    for image in range(1, 11):
        for box in random_boxes(random, int(random.integers(1, 9))).tolist():
            crowd = int(random.random() < 0.15)
            annotations.append(
                {"image_id": image, "category_id": int(random.choice([2, 5])), "bbox": box, "segmentation": disc(box)}
                | {"iscrowd": crowd, "area": float(0.78 * box[2] * box[3])}
            )
    path = coco_file(
        images={f"{n}.png": (SIDE, SIDE) for n in range(12)}, annotations=annotations, categories=CATEGORIES
    )
    return open_coco(DetectionDataOptions(path=str(path)), "all")


def found_in(source: CocoSource, seed: int = 1) -> list[Detections]:
    """Objects found about where they are, some of them twice or in the wrong class, and others out of thin air."""
    random = np.random.default_rng(seed)
    detections = []
    for index in range(len(source)):
        target = source.target(index)
        true = target["boxes"].numpy().astype(float)
        near = np.concatenate([true, true[: len(true) // 2]]) + random.normal(0, 4, (len(true) + len(true) // 2, 4))
        other = random_boxes(random, 3 if index < 11 else 0)
        boxes = np.concatenate(
            [near.reshape(-1, 4), np.concatenate([other[:, :2], other[:, :2] + other[:, 2:]], axis=1)]
        )
        boxes = np.sort(np.clip(boxes, 0, SIDE).reshape(-1, 2, 2), axis=1).reshape(-1, 4).astype(np.float32)
        labels = np.concatenate(
            [target["labels"], target["labels"][: len(true) // 2], random.integers(1, 4, len(other))]
        )
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        detections.append(
            {
                "boxes": torch.from_numpy(boxes),
                "labels": torch.from_numpy(labels.astype(np.int64)),
                "scores": torch.from_numpy(random.integers(1, 20, len(boxes)).astype(np.float32) / 20),  # ties too
                "rles": [disc(box) for box in (corners + np.array([0, 0, 1e-3, 1e-3])).tolist()],
            }
        )
    return detections


def pycoco(source: CocoSource, detections: list[Detections], kind: str, rows: list[int]) -> COCOeval:
    """The official evaluation of the JSON file and of detections in its own ids."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(source.where)
        entries = []
        for row, found in zip(rows, detections, strict=True):
            for n, label in enumerate(found["labels"].tolist()):
                left, top, right, bottom = found["boxes"][n].double().tolist()
                entry = {"image_id": source.image_id(row), "category_id": source.category_ids[label - 1]}
                shape = (
                    {"bbox": [left, top, right - left, bottom - top]}
                    if kind == "bbox"
                    else {"segmentation": found["rles"][n]}
                )
                entries.append(entry | shape | {"score": found["scores"][n].item()})
        evaluation = COCOeval(truth, truth.loadRes(entries), kind)
        evaluation.params.imgIds = [source.image_id(row) for row in rows]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


NAMES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]


@pytest.mark.parametrize("rows", [list(range(12)), [0, 3, 5, 11]])
def test_figures_are_those_of_pycocotools(source: CocoSource, rows: list[int]) -> None:
    detections = found_in(source)
    metrics = DetectionMetrics(source, masks=True)
    for start in range(0, len(rows), 5):
        part = rows[start : start + 5]
        metrics.update(part, [detections[row] for row in part])
    figures, table = metrics.scalars(), metrics.by_class()
    for kind, theirs in (("box", "bbox"), ("mask", "segm")):
        official = pycoco(source, [detections[row] for row in rows], theirs, rows)
        ours = [figures[f"{kind}_{name}"] for name in NAMES]
        assert ours == pytest.approx([value if value > -1 else math.nan for value in official.stats[:6]], nan_ok=True)
        precision = official.eval["precision"][:, :, :, 0, -1]
        for number, name in enumerate(("car", "dog")):
            assert table[name][f"{kind}_ap"] == pytest.approx(precision[:, :, number].mean())
            assert table[name][f"{kind}_ap50"] == pytest.approx(precision[0, :, number].mean())
        assert math.isnan(table["owl"][f"{kind}_ap"])
    assert 0.1 < figures["box_ap50"] < 0.9
    assert figures["box_ap"] != figures["mask_ap"]
    assert metrics.images() == len(rows)


def test_finding_everything_is_1_and_nothing_is_0(source: CocoSource) -> None:
    metrics = DetectionMetrics(source, masks=True)
    perfect = []
    for index in range(len(source)):
        target = source.target(index, masks=True, crowd=False)
        rles = [encode(mask) for mask in target["masks"].numpy()]
        perfect.append({**target, "scores": torch.ones(len(rles)), "rles": rles})
    metrics.update(range(12), perfect)
    assert metrics.scalars()["box_ap"] == metrics.scalars()["mask_ap"] == pytest.approx(1)
    metrics.reset()
    assert metrics.images() == 0
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.long),
        "scores": torch.zeros(0),
        "rles": [],
    }
    metrics.update(range(12), [nothing] * 12)
    assert {metrics.scalars()[f"{kind}_{name}"] for kind in ("box", "mask") for name in NAMES[:3]} == {0.0}
    assert metrics.images() == 12


def test_crowds_are_no_misses_and_hide_false_alarms(coco_file: Callable[..., Path]) -> None:
    crowd = {
        "image_id": 1,
        "category_id": 2,
        "bbox": [60, 60, 90, 90],
        "iscrowd": 1,
        "segmentation": disc([60, 60, 90, 90]),
    }
    car = {"image_id": 1, "category_id": 2, "bbox": [5, 5, 40, 40], "segmentation": disc([5, 5, 40, 40])}
    path = coco_file(images={"a.png": (SIDE, SIDE)}, annotations=[crowd, car], categories=CATEGORIES)
    metrics = DetectionMetrics(open_coco(DetectionDataOptions(path=str(path)), "all"), masks=False)
    boxes = torch.tensor([[70.0, 70, 90, 90], [100, 100, 140, 140], [5, 5, 45, 45]])
    metrics.update([0], [{"boxes": boxes, "labels": torch.tensor([1, 1, 1]), "scores": torch.tensor([0.9, 0.8, 0.7])}])
    assert metrics.scalars()["box_ap"] == pytest.approx(1)


def test_an_image_seen_twice_counts_once(source: CocoSource) -> None:
    metrics = DetectionMetrics(source, masks=False)
    detections = found_in(source)
    metrics.update(range(12), detections)
    once = metrics.scalars()
    metrics.update([3, 4], detections[3:5])
    assert metrics.scalars() == pytest.approx(once, nan_ok=True)
    assert metrics.images() == 12
    assert set(once) == {f"box_{name}" for name in NAMES}


def test_data_without_objects_say_so(coco_file: Callable[..., Path]) -> None:
    source = open_coco(DetectionDataOptions(path=str(coco_file())), "all")
    with pytest.raises(ValueError, match=r"train\.json has no objects in its images: AP is measured on some"):
        DetectionMetrics(source, masks=False)


def test_figures_of_images_without_objects_are_no_numbers(source: CocoSource) -> None:
    metrics = DetectionMetrics(source, masks=False)
    assert all(map(math.isnan, metrics.scalars().values()))
    metrics.update([10], [found_in(source)[10]])
    assert all(map(math.isnan, metrics.scalars().values()))


def test_masks_that_a_detector_does_not_give_are_asked_for(source: CocoSource) -> None:
    found = found_in(source)[0]
    del found["rles"]
    with pytest.raises(ValueError, match="masks are to be measured, but the detector gives boxes alone"):
        DetectionMetrics(source, masks=True).update([0], [found])


DISTRIBUTED = """
import pickle, sys, torch.distributed as dist
from swinv2.data.detection_options import DetectionDataOptions
from swinv2.data.sources.coco import open_coco
from swinv2.tasks.detect.metrics import DetectionMetrics

dist.init_process_group("gloo")
rank = dist.get_rank()
detections, expected = pickle.load(open(sys.argv[2], "rb"))
metrics = DetectionMetrics(open_coco(DetectionDataOptions(path=sys.argv[1]), "all"), masks=True)
for epoch in range(2):
    rows = [*range(rank, 12, 2), *([0] if rank else [])]  # both have seen image 0
    metrics.update(rows, [detections[row] for row in rows])
    figures = metrics.scalars()
    assert metrics.images() == 12, metrics.images()
    assert all(a == b or (a != a and b != b) for a, b in zip(figures.values(), expected.values())), figures
    metrics.reset()
print("agreed")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_the_figures_of_one(source: CocoSource, tmp_path: Path) -> None:
    import pickle

    detections = found_in(source)
    metrics = DetectionMetrics(source, masks=True)
    metrics.update(range(12), detections)
    (tmp_path / "found.pkl").write_bytes(pickle.dumps((detections, metrics.scalars())))
    (tmp_path / "distributed.py").write_text(DISTRIBUTED)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, str(tmp_path / "distributed.py"), source.where, str(tmp_path / "found.pkl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("agreed") == 2

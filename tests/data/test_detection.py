from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.data.detection import DetectionBatch, detection_samples, eval_samples, train_samples
from swinv2.data.detection_options import DetectionAugmentOptions, DetectionDataOptions
from swinv2.data.detection_transforms import eval_transform
from swinv2.data.image import UnreadableImage
from swinv2.data.loading import Loader, SampleKey, make_loader
from swinv2.data.sources.coco import CocoSource, open_coco
from swinv2.preprocessing import Preprocessing

SMALL = Preprocessing(size=(16, 24), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")
AUGMENT = DetectionAugmentOptions(short_side=(8, 20), short_step=1, long_side=30, instaboost=0.5, color_jitter=0.2)
TRIANGLE = [[2.0, 2.0, 12.0, 2.0, 2.0, 12.0]]


@pytest.fixture
def source(coco_file: Callable[..., Path]) -> CocoSource:
    """Seven images of several sizes; image n has n objects."""
    images = {f"{n}.png": (30 + n, 20 + 2 * n) for n in range(7)}
    annotations = [
        {"image_id": n + 1, "category_id": 3, "bbox": [2 + k, 2, 10, 10], "segmentation": TRIANGLE}
        for n in range(7)
        for k in range(n)
    ]
    path = coco_file(images=images, annotations=annotations)
    return open_coco(DetectionDataOptions(path=str(path)), "all")


def epoch(loader: Loader, number: int = 0) -> list[DetectionBatch]:
    loader.sampler.set_epoch(number)
    return list(loader)  # type: ignore[arg-type]


def assert_equal(ours: list[DetectionBatch], theirs: list[DetectionBatch]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        for image, same in zip(one.images, other.images, strict=True):
            assert torch.equal(image, same)
        for target, same in zip(one.targets, other.targets, strict=True):
            assert target.keys() == same.keys()
            for name, value in target.items():
                assert torch.equal(value, same[name]) if isinstance(value, torch.Tensor) else value == same[name]


def test_every_image_comes_once_with_its_objects(source: CocoSource) -> None:
    samples = train_samples(source, AUGMENT, SMALL, masks=True)
    batches = epoch(make_loader(samples, batch_size=3, shuffle=True))
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == list(range(7))
    for batch in batches:
        for image, target, row in zip(batch.images, batch.targets, batch.indices.tolist(), strict=True):
            assert target["image_id"] == row + 1
            assert len(target["boxes"]) == len(target["masks"]) <= row
            assert target["masks"].shape[1:] == image.shape[1:]
            assert target["size"] == (20 + 2 * row, 30 + row)


def test_evaluation_is_whole_and_light(source: CocoSource) -> None:
    (batch,) = epoch(make_loader(eval_samples(source, SMALL), batch_size=7, shuffle=False))
    assert [len(target["labels"]) for target in batch.targets] == list(range(7))
    assert not any("masks" in target for target in batch.targets)
    assert all(max(image.shape[1:]) <= 24 and min(image.shape[1:]) <= 16 for image in batch.images)


def test_workers_change_nothing(source: CocoSource) -> None:
    samples = train_samples(source, AUGMENT, SMALL, masks=True)
    here = make_loader(samples, batch_size=3, shuffle=True, seed=5)
    there = make_loader(samples, batch_size=3, shuffle=True, seed=5, workers=2)
    for number in (0, 1):
        assert_equal(epoch(here, number), epoch(there, number))


def test_augmentation_depends_on_the_epoch_and_leaves_random_states_alone(source: CocoSource) -> None:
    loader = make_loader(train_samples(source, AUGMENT, SMALL), batch_size=7, shuffle=False)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first, second = epoch(loader, 0), epoch(loader, 1)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
    assert [image.shape for image in first[0].images] != [image.shape for image in second[0].images]
    assert_equal(first, epoch(loader, 0))


def test_resumes_within_an_epoch(source: CocoSource) -> None:
    loaders = [make_loader(train_samples(source, AUGMENT, SMALL), batch_size=2, shuffle=True) for _ in range(2)]
    whole = epoch(loaders[0], 3)
    loaders[1].load_state_dict({"epoch": 3, "batches": 1})
    assert_equal(list(loaders[1]), whole[1:])  # type: ignore[arg-type]


def test_other_annotations_are_other_data(source: CocoSource) -> None:
    data = [
        make_loader(eval_samples(each, SMALL), batch_size=2, shuffle=False).data
        for each in (source, source.subset([6, *range(6)]))
    ]
    assert data[0]["images"] == data[1]["images"] == 7
    assert data[0]["labels"] != data[1]["labels"]


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_skipped_and_named(source: CocoSource, workers: int) -> None:
    for row in (1, 4, 5):
        Path(source.name(row)).write_bytes(b"")
    loader = make_loader(eval_samples(source, SMALL), batch_size=3, shuffle=False, workers=workers)
    batches = epoch(loader)
    assert [batch.indices.tolist() for batch in batches] == [[0, 2], [3], [6]]
    assert [len(batch.skipped) for batch in batches] == [1, 2, 0]
    assert batches[0].skipped[0].startswith(f"{source.name(1)}: ")
    with pytest.raises(UnreadableImage, match=r"1\.png"):
        epoch(make_loader(eval_samples(source, SMALL, strict=True), batch_size=3, shuffle=False, workers=workers))


def test_a_batch_without_a_readable_image_is_empty(source: CocoSource) -> None:
    Path(source.name(6)).write_bytes(b"")
    batch = epoch(make_loader(eval_samples(source, SMALL), batch_size=3, shuffle=False))[2]
    assert (batch.images, batch.targets, batch.indices.shape, len(batch.skipped)) == ([], [], (0,), 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_of_another_size_stops_with_one_sentence(source: CocoSource, workers: int) -> None:
    Image.new("RGB", (9, 9)).save(source.name(2))
    loader = make_loader(eval_samples(source, SMALL), batch_size=3, shuffle=False, workers=workers)
    with pytest.raises(ValueError, match=r"^\S+2\.png is 9x9 pixels, but [^\n]+\.$"):
        epoch(loader)


def test_masks_are_asked_for_before_training(coco_file: Callable[..., Path]) -> None:
    path = coco_file(annotations=[{"image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}])
    boxes = open_coco(DetectionDataOptions(path=str(path)), "all")
    plain = DetectionAugmentOptions()
    assert "masks" not in train_samples(boxes, plain, SMALL)[SampleKey(0, 0, 0)].target
    for augment, masks in ((plain, True), (AUGMENT, False)):
        with pytest.raises(ValueError, match=r"annotation 1 of .* has no segmentation"):
            train_samples(boxes, augment, SMALL, masks=masks)


def test_training_leaves_crowds_and_surplus_objects_out(coco_file: Callable[..., Path]) -> None:
    objects: list[dict[str, Any]] = [{"image_id": 1, "category_id": 3, "bbox": [n, n, 9, 9]} for n in range(9)]
    path = coco_file(annotations=[*objects, objects[0] | {"iscrowd": 1}])
    source = open_coco(DetectionDataOptions(path=str(path)), "all")
    few = train_samples(source, DetectionAugmentOptions(max_objects=4), SMALL)
    drawn = [epoch(make_loader(few, batch_size=1, shuffle=False), n)[0].targets[0] for n in range(6)]
    assert {len(target["boxes"]) for target in drawn} == {4}
    assert not any(target["iscrowd"].any() for target in drawn)
    assert len({tuple((target["boxes"][:, 0] / target["boxes"][:, 2]).tolist()) for target in drawn}) > 2
    every = detection_samples(source, eval_transform(SMALL))
    assert len(epoch(make_loader(every, batch_size=1, shuffle=False))[0].targets[0]["boxes"]) == 10


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "masks"), [("bccd", False), ("camvid", True)])
def test_real_images_make_batches(real_data: Path, folder: str, masks: bool) -> None:
    source = open_coco(DetectionDataOptions(path=str(real_data / folder)), "train").subset(range(8))
    augment = DetectionAugmentOptions(resize="jitter", jitter_size=(256, 256), instaboost=0.5 if masks else 0.0)
    preprocessing = Preprocessing(size=(240, 320), mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bilinear")
    (batch,) = epoch(
        make_loader(train_samples(source, augment, preprocessing, masks=masks), batch_size=8, shuffle=True)
    )
    assert all(max(image.shape[1:]) <= 256 for image in batch.images)
    found = torch.cat([target["boxes"] for target in batch.targets])
    assert len(found) > 10
    assert found.min() >= 0
    assert found.max() <= 256
    assert ((found[:, 2:] - found[:, :2]) >= 1).all()

"""Samples and batches of images with label maps, loaded as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.data.image import UnreadableImage
from swinv2.data.loading import SampleKey, Samples, make_loader
from swinv2.data.segmentation import SegmentationBatch, SegmentationSample, by_size, segmentation_samples
from swinv2.data.segmentation_options import SegmentationAugmentOptions, SegmentationDataOptions
from swinv2.data.segmentation_transforms import EvalTransform, JointTransform, TrainTransform
from swinv2.data.sources.label_maps import open_label_maps
from swinv2.preprocessing import Preprocessing

SMALL = Preprocessing(size=(12, 16), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")
TRAIN = TrainTransform(SegmentationAugmentOptions(), SMALL)
SIZES = ((9, 14), (20, 11), (9, 14), (9, 14), (12, 12))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for folder in ("images/train", "labels/train", "images/val", "labels/val"):
        (tmp_path / folder).mkdir(parents=True)
    for part in ("train", "val"):
        for number, size in enumerate(SIZES):
            pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"images/{part}/{number}.png")
            labels = random.integers(0, 3, size, dtype=np.uint8)
            Image.fromarray(labels).save(tmp_path / f"labels/{part}/{number}.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree")
    return tmp_path


def samples(root: Path, transform: JointTransform = TRAIN, strict: bool = False) -> Samples:
    source = open_label_maps(SegmentationDataOptions(path=str(root)), "train")
    return segmentation_samples(source, transform, strict=strict)


def load(made: Samples, batch_size: int = 2, workers: int = 0, epoch: int = 0) -> list[SegmentationBatch]:
    loader = make_loader(made, batch_size=batch_size, shuffle=True, seed=3, workers=workers)
    loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_equal(ours: list[SegmentationBatch], theirs: list[SegmentationBatch]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for name in ("images", "labels", "indices", "image_sizes", "label_sizes"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_training_batches_have_one_size(root: Path) -> None:
    batches = load(samples(root))
    assert [batch.images.shape for batch in batches] == [(2, 3, 12, 16), (2, 3, 12, 16), (1, 3, 12, 16)]
    assert [batch.labels.shape for batch in batches] == [(2, 12, 16), (2, 12, 16), (1, 12, 16)]
    assert sorted(torch.cat([batch.indices for batch in batches]).tolist()) == list(range(5))
    assert all(batch.labels.dtype == torch.long and batch.seconds > 0 for batch in batches)


def test_batches_are_a_function_of_seed_and_epoch(root: Path) -> None:
    made = samples(root)
    assert_equal(load(made, 2), load(made, 2))
    assert not torch.equal(load(made, 5)[0].images, load(made, 5, epoch=1)[0].images)
    key = SampleKey(0, 0, 1)
    alone = made[key]
    state = torch.get_rng_state()
    again = made[key]
    assert isinstance(again, SegmentationSample)
    assert torch.equal(alone.image, again.image)
    assert torch.equal(alone.labels, again.labels)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_workers_change_nothing(root: Path) -> None:
    made = samples(root)
    assert_equal(load(made), load(made, workers=2))


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.5, 1.4)])
def test_evaluation_batches_are_padded_and_taken_apart_again(root: Path, scales: tuple[float, ...]) -> None:
    made = samples(root, EvalTransform(SMALL, 18, scales))
    (batch,) = load(made, 5)
    assert batch.labels.shape == (5, 20, 14)
    assert (batch.labels == 255).any()
    parts = list(by_size(batch))
    assert sorted(len(part.indices) for part in parts) == [1, 1, 3]
    rows = []
    for part in parts:
        rows += part.indices.tolist()
        views = [part.images, *(images for images, _ in part.others)]
        assert len(views) == len(scales)
        for place, row in enumerate(part.indices.tolist()):
            own = made[SampleKey(0, 0, row)]
            for view, image in zip(views, (own.image, *own.others), strict=True):
                assert torch.equal(view[place], image)
            assert torch.equal(part.labels[place], own.labels)
    assert sorted(rows) == list(range(5))


def test_unreadable_files_are_skipped_and_named(root: Path) -> None:
    (root / "images/train/1.png").write_bytes(b"")
    (root / "labels/train/3.png").write_bytes(b"no picture")
    (batch,) = load(samples(root), 5)
    assert sorted(batch.indices.tolist()) == [0, 2, 4]
    assert len(batch.images) == len(batch.labels) == 3
    assert sorted(line.split(":")[0] for line in batch.skipped) == [
        str(root / "images/train/1.png"),
        str(root / "labels/train/3.png"),
    ]
    with pytest.raises(UnreadableImage, match=r"[13]\.png: empty, or not an image"):
        load(samples(root, strict=True), 5)


def test_batches_without_readable_images_are_empty(root: Path) -> None:
    for path in (root / "labels/train").iterdir():
        path.write_bytes(b"")
    batches = load(samples(root))
    assert [len(batch.images) for batch in batches] == [0, 0, 0]
    assert sum(len(batch.skipped) for batch in batches) == 5
    assert batches[0].labels.dtype == torch.long
    assert list(by_size(batches[0])) == []


def test_values_outside_the_classes_stop_the_loader(root: Path) -> None:
    Image.fromarray(np.full(SIZES[2], 7, dtype=np.uint8)).save(root / "labels/train/2.png")
    with pytest.raises(ValueError, match=r"labels/train/2\.png has the value 7") as caught:
        load(samples(root))
    assert not isinstance(caught.value, UnreadableImage)


def test_other_data_are_known(root: Path) -> None:
    made = make_loader(samples(root), batch_size=2, shuffle=True).data
    assert made == make_loader(samples(root), batch_size=3, shuffle=False).data
    for folder in ("images", "labels"):
        (root / folder / "train/0.png").rename(root / folder / "train/9.png")
    assert made != make_loader(samples(root), batch_size=2, shuffle=True).data

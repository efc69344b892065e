from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.data.detection import train_samples
from swinv2.data.detection_options import CocoLayout, DetectionAugmentOptions, DetectionDataOptions
from swinv2.data.image import UnreadableImage
from swinv2.data.loading import make_loader
from swinv2.data.sources.coco import CocoSource, open_coco
from swinv2.preprocessing import Preprocessing

MakeCoco = Callable[..., Path]
INPUT = Preprocessing(size=(30, 40), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="nearest")
PLACES = ["stuffthingmaps_train2017", "stuffthingmaps/train2017", "panoptic_stuff_train2017", "semantic/train2017"]


def opened(root: Path, **layout: Any) -> CocoSource:
    return open_coco(DetectionDataOptions(path=str(root), layout=CocoLayout(**layout)), "train")


@pytest.fixture
def coco(coco_file: MakeCoco, tmp_path: Path) -> Callable[..., Path]:
    """COCO's own layout with two images, and a map of columns 0, 1, 2, ... and 255 for each, in a folder."""

    def make(place: str = "stuffthingmaps_train2017", name: str = "annotations/instances_train2017.json") -> Path:
        objects = [{"image_id": n, "category_id": 3, "bbox": [2, 2, 20, 20]} for n in (1, 2)]
        for part in ("train", "val"):
            file = name.replace("train", part)
            coco_file(file, f"{part}2017", {"a.jpg": (40, 30), "b.jpg": (24, 36)}, objects)
        for stem, (width, height) in {"a": (40, 30), "b": (24, 36)}.items():
            columns = np.arange(width) * np.ones((height, 1))
            columns[:, -3:] = 255
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(columns.astype(np.uint8)).save(tmp_path / place / f"{stem}.png")
        return tmp_path

    return make


@pytest.mark.parametrize("place", [*PLACES, "train2017/semantic", "semantic"])
def test_maps_are_found_in_the_usual_places(coco: Callable[..., Path], place: str) -> None:
    source = opened(coco(place))
    source.check_semantic()
    for row, width in enumerate((40, 24)):
        found = source.target(row, semantic=183)["semantic"]
        assert found.dtype == torch.uint8
        assert found.shape == source.size(row)
        assert found[5].tolist() == [*range(width - 3), 255, 255, 255]
    assert "semantic" not in source.target(0)


def test_maps_that_are_named_and_another_value_that_is_ignored(coco: Callable[..., Path]) -> None:
    source = opened(coco("stuff/all"), semantic="stuff/all", semantic_ignore=5)
    with pytest.raises(
        ValueError, match=r"a.png has the value 255, but semantic_classes 183 .* layout.semantic_ignore"
    ):
        source.target(0, semantic=183)
    assert source.target(0, semantic=256)["semantic"][0, 4:7].tolist() == [4, 255, 6]


def test_what_is_missing_is_one_sentence(coco: Callable[..., Path]) -> None:
    root = coco("elsewhere")
    with pytest.raises(ValueError, match=r"there are no semantic maps beside .*train2017.json: name their folder"):
        opened(root).check_semantic()
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere: check layout.semantic"):
        opened(root, semantic="nowhere")
    (root / "elsewhere" / "b.png").unlink()
    with pytest.raises(ValueError, match=r"1 images have no semantic map in .*, the first is b\.jpg: add b\.png"):
        opened(root, semantic="elsewhere").check_semantic()


def test_what_cannot_be_is_one_sentence(coco: Callable[..., Path]) -> None:
    folder = coco("semantic") / "semantic"
    source = opened(folder.parent)
    with pytest.raises(ValueError, match=r"a.png has the value 36, but semantic_classes 30 have the values 0 to 29"):
        source.target(0, semantic=30)
    Image.new("L", (30, 40)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a.png is 30x40 pixels, but its image 40x30: give the map the size"):
        source.target(0, semantic=183)
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a.png is a colour picture"):
        source.target(0, semantic=183)
    (folder / "a.png").write_bytes(b"damaged")
    with pytest.raises(UnreadableImage, match=r"a.png"):
        source.target(0, semantic=183)


def test_batches_bring_maps_that_fit_their_images(coco: Callable[..., Path]) -> None:
    """Jittered, each to a size of its own."""
    augment = DetectionAugmentOptions(resize="jitter", jitter_size=(48, 48), jitter_scale=(0.5, 0.9))
    samples = train_samples(opened(coco()), augment, INPUT, semantic=183)
    (batch,) = make_loader(samples, batch_size=2, shuffle=False)
    for image, target in zip(batch.images, batch.targets, strict=True):
        assert target["semantic"].shape == image.shape[1:]
        assert max(image.shape[1:]) < 48
        assert (target["semantic"] != 255).any()


@pytest.mark.realdata
def test_real_maps_have_the_classes_of_the_objects_on_them(real_data: Path) -> None:
    """CamVid's instances were made of its label maps; both stay together through augmentation."""
    names = (real_data / "camvid" / "classes.txt").read_text().split()
    source = opened(real_data / "camvid", semantic="train/masks", semantic_ignore=11).subset(range(12))
    augment = DetectionAugmentOptions(resize="jitter", jitter_size=(256, 320), jitter_scale=(0.7, 1.5), hflip=0.5)
    samples = train_samples(source, augment, INPUT, masks=True, semantic=11)
    (batch,) = make_loader(samples, batch_size=12, shuffle=False)
    wanted = {label: names.index(each) for label, each in enumerate(source.classes, start=1) if each in names}
    seen = 0
    for target in batch.targets:
        for label, mask in zip(target["labels"].tolist(), target["masks"], strict=True):
            if label in wanted:
                assert (target["semantic"][mask > 0] == wanted[label]).all()
                seen += 1
    assert seen > 10

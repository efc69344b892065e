"""Joint transforms: image and labels stay together, and every draw is torch's."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.data.segmentation_options import LabelMapLayout, SegmentationAugmentOptions, SegmentationDataOptions
from swinv2.data.segmentation_transforms import (
    Box,
    EvalTransform,
    TrainTransform,
    cropped,
    cropped_labels,
    distorted,
    is_mixed,
    random_box,
    resized_size,
)
from swinv2.data.sources.label_maps import LabelMap, open_label_maps
from swinv2.preprocessing import Preprocessing

PLAIN = SegmentationAugmentOptions(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)
COLOURS = np.array([[10, 20, 30], [200, 0, 100], [0, 250, 60], [90, 90, 255], [255, 255, 255]], dtype=np.uint8)


def preprocessing(size: tuple[int, int] = (32, 40), interpolation: str = "nearest") -> Preprocessing:
    return Preprocessing(size=size, mean=(0.0,) * 3, std=(1 / 255,) * 3, interpolation=interpolation)


def coloured(height: int = 37, width: int = 53, block: int = 5, seed: int = 0) -> tuple[Image.Image, LabelMap]:
    """An image whose colours are those of its labels, which come in blocks."""
    random_ = np.random.default_rng(seed)
    blocks = random_.integers(0, len(COLOURS), (-(-height // block), -(-width // block)), dtype=np.int32)
    labels = blocks.repeat(block, 0).repeat(block, 1)[:height, :width]
    return Image.fromarray(COLOURS[labels]), labels


def noise(height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [(37, 53), (91, 21)])
def test_every_pixel_keeps_its_label(seed: int, size: tuple[int, int]) -> None:
    """Through resizing, cropping, flipping and padding; an interpolated image would lose its few colours.

    Odd sizes, in which no pixel's centre falls between two of the image.
    """
    image, labels = coloured(*size)
    torch.manual_seed(seed)
    pixels, target = TrainTransform(PLAIN, preprocessing())(image, labels)
    assert pixels.shape == (3, 32, 40)
    assert target.shape == (32, 40)
    assert target.dtype == torch.long
    shown = pixels.round().byte().movedim(0, -1).numpy()
    inside = target.numpy() != 255
    expected = np.where(inside[..., None], COLOURS[np.where(inside, target, 0)], 0)
    assert np.array_equal(shown, expected)
    rows, columns = inside.any(1).sum(), inside.any(0).sum()
    assert inside[:rows, :columns].all()
    assert inside.sum() == rows * columns > 0


def test_draws_cover_the_range_of_sizes_and_both_directions() -> None:
    """A ramp tells the ratio by its slope and the direction by its sign."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3))
    transform = TrainTransform(PLAIN, preprocessing((50, 50), "bilinear"))
    slopes = []
    for seed in range(200):
        torch.manual_seed(seed)
        row = transform(Image.fromarray(ramp), np.zeros((200, 200), dtype=np.int32))[0][0, 25]
        slopes.append(float(row[40] - row[10]) / 30)
    ratios = [1 / abs(slope) for slope in slopes]
    assert 0.48 < min(ratios) < 0.6
    assert 1.9 < max(ratios) < 2.1
    assert np.mean(ratios) == pytest.approx(1.25, abs=0.1)
    assert 0.35 < np.mean([slope < 0 for slope in slopes]) < 0.65


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 60), (25, 31), (77, 130)])
def test_only_what_is_kept_is_resized(size: tuple[int, int], interpolation: str) -> None:
    whole = noise().resize(size[::-1], Image.Resampling[interpolation.upper()])
    for box in (Box(0, 0, 20, 20), Box(3, 7, 11, 24), Box(size[0] - 9, size[1] - 8, 9, 8)):
        expected = whole.crop((box.left, box.top, box.left + box.width, box.top + box.height))
        found = cropped(noise(), size, box, interpolation)
        assert found.size == expected.size
        difference = np.abs(np.asarray(found, dtype=int) - np.asarray(expected, dtype=int))
        assert difference.max() <= 1


def test_labels_are_those_at_the_centres_of_pixels() -> None:
    labels = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert cropped_labels(labels, (4, 6), Box(1, 0, 2, 6)).tolist() == [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5]]
    assert cropped_labels(labels, (1, 1), Box(0, 0, 1, 1)).tolist() == [[4]]
    big, size = coloured(40, 60)[1], (23, 71)
    nearest = Image.fromarray(big.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    assert np.array_equal(cropped_labels(big, size, Box(0, 0, *size)), np.asarray(nearest))


@pytest.mark.parametrize(
    ("sides", "shorter", "ratio", "expected"),
    [
        ((360, 480), None, 1.0, (360, 480)),
        ((360, 480), None, 0.5, (180, 240)),
        ((360, 480), 512, 1.0, (512, 683)),
        ((480, 360), 512, 2.0, (1365, 1024)),
        ((10, 10000), 512, 1.0, (2, 2048)),
        ((3, 1), None, 0.1, (1, 1)),
    ],
)
def test_sizes(sides: tuple[int, int], shorter: int | None, ratio: float, expected: tuple[int, int]) -> None:
    assert resized_size(Image.new("L", sides[::-1]), shorter, ratio) == expected


def test_crops_lie_anywhere_within_the_image() -> None:
    torch.manual_seed(0)
    boxes = {random_box((6, 5), (4, 9)) for _ in range(100)}
    assert boxes == {Box(top, 0, 4, 5) for top in (0, 1, 2)}


def test_crops_of_mostly_one_class_are_drawn_again() -> None:
    """A quarter of the image has two classes: without the rule, most crops see one."""
    labels = np.zeros((64, 64), dtype=np.int32)
    labels[:, 48:] = np.arange(16) % 2

    def share(most: float) -> float:
        transform = TrainTransform(
            SegmentationAugmentOptions(most_of_one_class=most, ratio=(1, 1)), preprocessing((16, 16))
        )
        good = 0
        for seed in range(100):
            torch.manual_seed(seed)
            crop = transform(Image.new("RGB", (64, 64)), labels)[1]
            good += int(crop.eq(0).float().mean() < 0.75)
        return good / 100

    assert share(1.0) < 0.3
    assert share(0.75) > 0.75


@pytest.mark.parametrize(
    ("labels", "mixed"),
    [
        ([0, 0, 0, 1], False),
        ([0, 0, 1, 1], True),
        ([0, 0, 0, 1, 2], True),
        ([0, 0, 0, 0], False),
        ([0, 0, 255, 255], False),
        ([0, 255, 255, 255, 1], True),
        ([255, 255], False),
    ],
)
def test_the_share_of_one_class_is_of_labelled_pixels(labels: list[int], mixed: bool) -> None:
    assert is_mixed(np.array([labels], dtype=np.int32), 0.75, 255) is mixed


def test_torch_is_the_only_randomness() -> None:
    image, labels = coloured()
    transform = TrainTransform(SegmentationAugmentOptions(), preprocessing(interpolation="bilinear"))

    def result(seed: int, other: int) -> torch.Tensor:
        random.seed(other)
        np.random.seed(other)
        torch.manual_seed(seed)
        return transform(image, labels)[0]

    assert torch.equal(result(0, 0), result(0, 1))
    assert not torch.equal(result(0, 0), result(1, 0))


def test_no_distortion_changes_nothing() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        assert distorted(noise(), PLAIN).tobytes() == noise().tobytes()


def extremes(mode: str, colour: tuple[int, ...] | int, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value of a single colour over many distortions of one kind."""
    augment = SegmentationAugmentOptions(**{**vars(PLAIN), **changes})  # type: ignore[arg-type]
    image, found = Image.new(mode, (2, 2), colour), []
    for seed in range(150):
        torch.manual_seed(seed)
        found.append(np.asarray(distorted(image, augment))[0, 0])
    return np.min(found, 0), np.max(found, 0)


def test_brightness_moves_all_channels() -> None:
    low, high = extremes("RGB", (100, 120, 240), brightness=32)
    assert np.abs(low - np.array([68, 88, 208])).max() <= 2
    assert np.abs(high - np.array([132, 152, 255])).max() <= 2


def test_contrast_multiplies() -> None:
    low, high = extremes("RGB", (100, 40, 240), contrast=(0.5, 1.5))
    assert np.abs(low - np.array([50, 20, 120])).max() <= 2
    assert np.abs(high - np.array([150, 60, 255])).max() <= 2


def test_saturation_keeps_the_brightest_channel() -> None:
    low, high = extremes("RGB", (200, 100, 100), saturation=(0.5, 1.5))
    assert np.abs(low - np.array([200, 50, 50])).max() <= 6
    assert np.abs(high - np.array([200, 150, 150])).max() <= 6


def test_hue_turns_red_to_orange_and_to_magenta() -> None:
    low, high = extremes("RGB", (200, 0, 0), hue=36)
    assert np.abs(low - np.array([200, 0, 0])).max() <= 3
    assert np.abs(high - np.array([200, 120, 120])).max() <= 8


def test_each_distortion_is_drawn_half_of_the_time() -> None:
    augment = SegmentationAugmentOptions(**{**vars(PLAIN), "brightness": 32})
    changed = 0
    for seed in range(200):
        torch.manual_seed(seed)
        changed += distorted(noise(4, 4), augment).tobytes() != noise(4, 4).tobytes()
    assert 0.4 < changed / 200 < 0.6


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparent_images_are_distorted_too(mode: str) -> None:
    colour = 100 if mode == "L" else (100, 100, 100, 77)
    low, high = extremes(mode, colour, brightness=32, saturation=(0.5, 1.5), hue=36)
    assert low.flat[0] < 75
    assert high.flat[0] > 125
    assert mode == "L" or low[3] == high[3] == 77


@pytest.mark.parametrize(("resize", "size"), [(None, (37, 53)), (74, (74, 106)), (16, (16, 23))])
def test_evaluation_resizes_the_image_alone(resize: int | None, size: tuple[int, int]) -> None:
    image, labels = coloured()
    transform = EvalTransform(Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3), resize)
    pixels, target = transform(image, labels)
    assert np.array_equal(target.numpy(), labels)
    shown = image if resize is None else image.resize(size[::-1], Image.Resampling.BICUBIC)
    expected = (np.asarray(shown, dtype=np.float64) / 255 - 0.5) / 0.25
    assert np.abs(pixels.movedim(0, -1).numpy() - expected).max() <= 1.01 / 255 / 0.25
    assert torch.equal(pixels, transform.views(image)[0])


def test_every_scale_is_resized_from_the_image_itself() -> None:
    image, labels = coloured()
    first, target, *others = EvalTransform(preprocessing(interpolation="bilinear"), 20, (0.5, 1.0, 2.0))(image, labels)
    assert target.shape == (37, 53)
    for pixels, size in zip((first, *others), ((10, 14), (20, 29), (40, 57)), strict=True):
        shown = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR), dtype=np.float64)
        assert np.abs(pixels.movedim(0, -1).numpy() - shown).max() <= 1.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SegmentationAugmentOptions(ratio=(0.0, 1.0)), "ratio"),
        (lambda: SegmentationAugmentOptions(contrast=(1.5, 0.5)), "contrast"),
        (lambda: SegmentationAugmentOptions(hflip=2), "hflip 2"),
        (lambda: SegmentationAugmentOptions(most_of_one_class=-1), "most_of_one_class -1"),
        (lambda: SegmentationAugmentOptions(hue=200), "hue 200"),
        (lambda: SegmentationAugmentOptions(brightness=-1), "brightness -1"),
        (lambda: LabelMapLayout(ignore_index=-1), "ignore_index -1"),
        (lambda: LabelMapLayout(ignore_index=70000), "ignore_index 70000"),
        (lambda: LabelMapLayout(resize=0), "resize 0"),
        (lambda: SegmentationDataOptions(val_fraction=1.0), "val_fraction 1.0"),
        (lambda: SegmentationDataOptions(workers=-1), "workers -1"),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.realdata
def test_camvid_labels_stay_where_they_are(real_data: Path) -> None:
    """The sky is bright and the road below it, in crops too."""
    options = SegmentationDataOptions(path=str(real_data / "camvid"), layout=LabelMapLayout(ignore_index=11))
    source = open_label_maps(options, "train")
    transform = TrainTransform(PLAIN, preprocessing((224, 224), "bilinear"), 11)
    sky, road = source.classes.index("sky"), source.classes.index("road")
    bright, count = 0, 0
    for row in range(0, 300, 30):
        torch.manual_seed(row)
        pixels, labels = transform(*source.read(row))
        grey = pixels.mean(0)
        if (labels == sky).sum() > 500 and (labels == road).sum() > 500:
            bright += int(grey[labels == sky].mean() > grey[labels == road].mean())
            count += 1
    assert count >= 3
    assert bright == count

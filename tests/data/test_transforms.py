from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from swinv2.data.options import AugmentOptions
from swinv2.data.transforms import CentreCrop, Normalise, Timm, eval_transform, mixing, train_transform
from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

OFF = AugmentOptions(crop="none", hflip=0, rand_augment=None, color_jitter=0, erase=0, mixup=0, cutmix=0)
OFF_FIELDS = {"hflip": 0.0, "rand_augment": None, "color_jitter": 0.0, "erase": 0.0}


def imagenet(*size: int, **options: Any) -> Preprocessing:
    return Preprocessing(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD, **options)


def plain(*size: int, channels: int = 3) -> Preprocessing:
    """Pixels stay in [0, 1]."""
    return Preprocessing(size=size, mean=(0.0,) * channels, std=(1.0,) * channels)


def noise(height: int, width: int, mode: str = "RGB") -> Image.Image:
    channels = len(mode)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


PHOTOS = [Image.fromarray(pixels) for pixels in load_sample_images().images]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("size", "fraction"), [(256, 0.9), (224, 0.875), (192, 1.0), (32, 0.9), (600, 0.95)])
@pytest.mark.parametrize("turned", [False, True])
def test_evaluation_sees_what_timm_shows(size: int, fraction: float, interpolation: str, turned: bool) -> None:
    theirs = timm.data.create_transform((3, size, size), crop_pct=fraction, interpolation=interpolation)
    ours = eval_transform(imagenet(size, size, crop_fraction=fraction, interpolation=interpolation))
    for photo in PHOTOS:
        photo = photo.transpose(Image.Transpose.ROTATE_90) if turned else photo
        levels = (ours(photo) - theirs(photo)).abs() * 255 * torch.tensor(IMAGENET_STD)[:, None, None]
        rounded_alike = levels < (1.01 if interpolation == "bilinear" else 10.01)  # overshoots are clipped per pass
        assert rounded_alike.all()
        assert (levels > 1.01).float().mean() < 2e-3


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    image=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    fraction=st.floats(0.3, 1.0),
)
def test_any_image_fits_any_size(size: tuple[int, int], image: tuple[int, int], fraction: float) -> None:
    crop = CentreCrop(size, fraction, "bicubic")
    shown = crop(Image.new("RGB", (image[1], image[0]), (9, 80, 200)))
    assert (shown.height, shown.width) == size
    assert shown.getextrema() == ((9, 9), (80, 80), (200, 200))


def test_aspect_and_centre_are_kept() -> None:
    """A disc in the middle of a wide photo stays a centred disc, at a size that is taller than wide."""
    y, x = np.mgrid[:200, :600]
    disc = Image.fromarray(np.where((y - 99.5) ** 2 + (x - 299.5) ** 2 < 80**2, 255, 0).astype(np.uint8))
    shown = np.asarray(CentreCrop((100, 50), 1.0, "bilinear")(disc)) > 127
    columns, rows = np.flatnonzero(shown.any(0)), np.flatnonzero(shown.any(1))
    assert (rows[0], rows[-1]) == (10, 89)
    assert (columns[0], columns[-1]) == (0, 49)
    assert np.array_equal(shown, shown[::-1, ::-1])


def test_a_banner_does_not_become_huge() -> None:
    banner = Image.new("L", (500_000, 1), 7)
    assert CentreCrop((224, 224), 1.0, "bicubic")(banner).getextrema() == (7, 7)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_normalise_equals_torchvisions_steps(mode: str, channels: int) -> None:
    mean, std = (0.1, 0.2, 0.3, 0.4)[:channels], (0.9, 0.8, 0.7, 0.6)[:channels]
    steps = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    image = noise(5, 7, mode)
    ours = Normalise(mean, std)(image)
    torch.testing.assert_close(ours, steps(image), rtol=0, atol=1e-6)
    assert ours.is_contiguous()
    assert ours.shape == (channels, 5, 7)


def test_augmentation_off_is_evaluation() -> None:
    preprocessing = imagenet(32, 48, crop_fraction=0.8)
    assert torch.equal(train_transform(OFF, preprocessing)(PHOTOS[0]), eval_transform(preprocessing)(PHOTOS[0]))


def test_pad_crop_is_a_window_of_the_padded_image() -> None:
    transform = train_transform(AugmentOptions(crop="pad", pad=2, **OFF_FIELDS), plain(8, 8))
    image = noise(8, 8)
    padded = torch.nn.functional.pad(eval_transform(plain(8, 8))(image), (2, 2, 2, 2))
    windows = {padded[:, y : y + 8, x : x + 8].numpy().tobytes() for y in range(5) for x in range(5)}
    torch.manual_seed(0)
    seen = {transform(image).numpy().tobytes() for _ in range(300)}
    assert seen == windows


def test_random_crop_keeps_to_scale_and_ratio() -> None:
    """On an image whose pixels are their coordinates, the result's range tells the crop."""
    y, x = np.mgrid[:200, :200].astype(np.uint8)
    image = Image.fromarray(np.stack([y, x, x], axis=-1))
    options = AugmentOptions(scale=(0.2, 0.5), ratio=(0.8, 1.25), **OFF_FIELDS)
    transform = train_transform(options, plain(64, 64))
    torch.manual_seed(0)
    for _ in range(50):
        height, width = (255 * (plane.max() - plane.min()) + 1 for plane in transform(image)[:2])
        assert 0.17 < height * width / 200**2 < 0.53
        assert 0.75 < width / height < 1.33


@pytest.mark.parametrize(("probability", "flips"), [(0.0, {False}), (1.0, {True}), (0.5, {False, True})])
def test_flip(probability: float, flips: set[bool]) -> None:
    transform = train_transform(AugmentOptions(crop="none", **(OFF_FIELDS | {"hflip": probability})), plain(6, 6))
    image = noise(6, 6)
    upright = eval_transform(plain(6, 6))(image)
    torch.manual_seed(0)
    seen = [transform(image) for _ in range(20)]
    assert all(torch.equal(each, upright) or torch.equal(each, upright.flip(-1)) for each in seen)
    assert {torch.equal(each, upright.flip(-1)) for each in seen} == flips


def step_of(steps: Any, name: str) -> Any:
    steps = [step.augmentation if isinstance(step, Timm) else step for step in steps.transforms]
    return next(step for step in steps if type(step).__name__.startswith(name))


def test_published_recipe_is_timms() -> None:
    theirs = timm.data.create_transform(
        (3, 192, 256), is_training=True, auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25, re_mode="pixel",
        interpolation="bicubic", color_jitter=0.4,
    )  # fmt: skip
    ours = train_transform(AugmentOptions(), imagenet(192, 256))
    mine, published = step_of(ours, "RandAugment"), step_of(theirs, "RandAugment")
    assert mine.num_layers == published.num_layers
    assert [vars(op) | {"aug_fn": 0} for op in mine.ops] == [vars(op) | {"aug_fn": 0} for op in published.ops]
    erasing, published = vars(step_of(ours, "RandomErasing")), vars(step_of(theirs, "RandomErasing"))
    assert erasing == published | {"device": "cpu"}
    crop, published = step_of(ours, "RandomResizedCrop"), step_of(theirs, "RandomResizedCrop")
    assert (crop.scale, crop.ratio, tuple(crop.size)) == (published.scale, published.ratio, published.size)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_strongest_rand_augment_runs(mode: str) -> None:
    """All operations at full strength, where posterize keeps 0 bits."""
    options = AugmentOptions(crop="none", hflip=0, rand_augment="rand-m10-n40-p1-inc1", erase=1)
    transform = train_transform(options, plain(16, 16, channels=len(mode)))
    torch.manual_seed(0)
    for _ in range(5):
        assert transform(noise(16, 16, mode)).isfinite().all()


def test_posterize_of_0_bits_is_black() -> None:
    transform = train_transform(AugmentOptions(), imagenet(32, 32))
    posterize = next(op for op in step_of(transform, "RandAugment").ops if op.name == "PosterizeIncreasing")
    for level, kept in ((10, 0), (5, 2), (0, 4)):
        posterize.magnitude, posterize.magnitude_std, posterize.prob = level, 0, 1
        pixels = np.asarray(noise(4, 4))
        assert np.array_equal(np.asarray(posterize(noise(4, 4))), pixels & (0xFF00 >> kept & 0xFF))


def test_colour_jitter_is_used_only_without_rand_augment() -> None:
    both = train_transform(AugmentOptions(), imagenet(32, 32))
    alone = train_transform(AugmentOptions(rand_augment=None), imagenet(32, 32))
    names = [[type(step).__name__ for step in each.transforms] for each in (both, alone)]
    assert ["ColorJitter" in each for each in names] == [False, True]
    assert step_of(alone, "ColorJitter").brightness == (0.6, 1.4)


def test_four_channels_are_augmented_without_rand_augment() -> None:
    transform = train_transform(AugmentOptions(rand_augment=None), plain(16, 16, channels=4))
    assert transform(noise(20, 20, "RGBA")).shape == (4, 16, 16)
    with pytest.raises(ValueError, match="4 channels"):
        train_transform(AugmentOptions(), plain(16, 16, channels=4))


@pytest.mark.parametrize("policy", ["auto-m9", "rand-z5", "rand-m1x"])
def test_unknown_policy_is_named(policy: str) -> None:
    with pytest.raises(ValueError, match=policy):
        train_transform(AugmentOptions(rand_augment=policy), imagenet(16, 16))


def test_torch_is_the_only_source_of_randomness() -> None:
    transform = train_transform(AugmentOptions(erase=1.0), imagenet(32, 32))
    seen = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        torch.manual_seed(0)
        seen.append([transform(PHOTOS[0]) for _ in range(4)])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))
    assert not torch.equal(seen[0][0], seen[0][1])


def test_transforms_travel_to_worker_processes() -> None:
    for transform in (train_transform(AugmentOptions(), imagenet(32, 32)), eval_transform(imagenet(32, 32))):
        outputs = []
        for each in (transform, pickle.loads(pickle.dumps(transform))):
            torch.manual_seed(0)
            outputs.append(each(PHOTOS[0]))
        assert torch.equal(*outputs)


def labelled_images(labels: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Image of class c is the constant c, so a mixed image's mean tells its classes' shares."""
    targets = torch.tensor(labels)
    return targets[:, None, None, None].expand(-1, 1, 32, 32).float().clone(), targets


@pytest.mark.parametrize("kinds", [{"mixup": 0.0}, {"cutmix": 0.0}, {}])
def test_targets_are_the_shares_of_the_mixed_images(kinds: dict[str, float]) -> None:
    mix = mixing(AugmentOptions(label_smoothing=0.0, **kinds), 4)
    assert mix
    np.random.seed(0)
    mixed_batches = 0
    for _ in range(20):
        images, targets = mix(*labelled_images([0, 1, 2, 3, 3, 2]))
        assert targets.shape == (6, 4)
        torch.testing.assert_close(images.mean((1, 2, 3)), targets @ torch.arange(4.0))
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        mixed_batches += int((targets.max() < 1) or not torch.equal(images, labelled_images([0, 1, 2, 3, 3, 2])[0]))
    assert mixed_batches > 10


@pytest.mark.parametrize(("size", "kept"), [(1, 1), (2, 2), (5, 4)])
def test_odd_batches_lose_one_and_single_samples_are_smoothed(size: int, kept: int) -> None:
    mix = mixing(AugmentOptions(label_smoothing=0.1), 10)
    assert mix
    images, targets = mix(*labelled_images([3] * size))
    assert images.shape == (kept, 1, 32, 32)
    expected = torch.full((kept, 10), 0.01).index_fill(1, torch.tensor([3]), 0.91)
    torch.testing.assert_close(targets, expected)


@pytest.mark.parametrize("off", [{"mixup": 0.0, "cutmix": 0.0}, {"mix_prob": 0.0}])
def test_no_mixing_is_none(off: dict[str, float]) -> None:
    assert mixing(AugmentOptions(**off), 10) is None


@pytest.mark.realdata
def test_real_photos_of_every_size_become_inputs(real_data: Path) -> None:
    transform = eval_transform(imagenet(64, 96))
    for path in sorted((real_data / "camvid" / "val").rglob("*.jpg"))[:3]:
        with Image.open(path) as photo:
            assert transform(photo.convert("RGB")).shape == (3, 64, 96)

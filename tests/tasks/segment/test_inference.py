"""Whole-image, sliding-window, multi-scale and mirrored inference against what they say."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from swinv2.config import SwinConfig
from swinv2.data.segmentation import SegmentationSample, collate
from swinv2.data.segmentation_transforms import EvalTransform
from swinv2.model import SwinBackbone
from swinv2.model.upernet import UperNet, UperNetConfig
from swinv2.preprocessing import Preprocessing
from swinv2.tasks.segment.inference import infer, predict, predict_image, slide, starts
from swinv2.tasks.segment.options import InferenceOptions

HALF = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")


@pytest.fixture(scope="module")
def upernet(randomise):
    config = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    heads = UperNetConfig(channels=8, auxiliary_map=None)
    return randomise(UperNet(SwinBackbone(config), 4, heads)).eval()


def images(batch=2, size=(30, 41), seed=0):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def sees_its_window(x):
    """Logits that depend on all of the window: a pixel, and a pixel times the window's mean and width."""
    means = x.mean((1, 2, 3), keepdim=True)
    return torch.cat([x[:, :1], x[:, 1:2] * means * x.shape[3], x[:, 2:].cumsum(3)], 1)


@pytest.mark.parametrize("window", [(30, 41), (64, 41), (500, 500)])
def test_a_window_that_covers_the_image_is_whole_image_inference(upernet, window):
    x = images()
    whole = predict(upernet, x)
    assert torch.equal(predict(upernet, x, InferenceOptions(window=window, stride=(7, 9))), whole)
    assert whole.std() > 0.01


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize(("window", "stride"), [((12, 16), (8, 9)), ((12, 16), (12, 16)), ((12, 50), (5, 1))])
def test_overlapping_windows_are_averaged(window, stride, batch_size):
    x = images()
    found = slide(sees_its_window, x, window, stride, batch_size)
    total, count = torch.zeros_like(found), torch.zeros(30, 41)
    height, width = min(window[0], 30), min(window[1], 41)
    tops = sorted({min(top, 30 - height) for top in range(0, 30, stride[0])})
    lefts = sorted({min(left, 41 - width) for left in range(0, 41, stride[1])})
    for top in tops:
        for left in lefts:
            place = (..., slice(top, top + height), slice(left, left + width))
            total[place] += sees_its_window(x[place])
            count[place] += 1
    assert count.min() >= 1
    torch.testing.assert_close(found, total / count)


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"),
    [(10, 10, 3, [0]), (11, 10, 3, [0, 1]), (20, 8, 4, [0, 4, 8, 12]), (21, 8, 8, [0, 8, 13]), (16, 8, 8, [0, 8])],
)
def test_windows_reach_the_end_and_no_further(size, window, stride, expected):
    assert list(starts(size, window, stride)) == expected


def test_mirror_images_are_averaged():
    x = images()
    one, other = sees_its_window(x).softmax(1), sees_its_window(x.flip(3)).flip(3).softmax(1)
    torch.testing.assert_close(predict(sees_its_window, x, InferenceOptions(flip=True)), (one + other) / 2)


def test_scales_are_averaged_at_the_images_size():
    x = images()
    views = []
    for size in ((15, 20), (45, 62)):  # half to even: 41 * 0.5 is 20
        view = F.interpolate(x, size, mode="bilinear", antialias=True)
        views.append(F.interpolate(sees_its_window(view), (30, 41), mode="bilinear").softmax(1))
    found = predict(sees_its_window, x, InferenceOptions(scales=(0.5, 1.5)))
    torch.testing.assert_close(found, (views[0] + views[1]) / 2)


def test_a_smooth_picture_looks_the_same_at_every_scale():
    """A pixel stays in its place through resizing, windows and mirroring."""
    ramp = torch.linspace(-2, 2, 64).expand(1, 1, 48, 64)
    x = torch.cat([ramp, -ramp, 0 * ramp], 1)
    options = InferenceOptions(window=(20, 20), stride=(9, 13), scales=(0.5, 1.0, 2.0), flip=True)
    torch.testing.assert_close(predict(lambda x: x, x, options), x.softmax(1), atol=0.02, rtol=0)


def test_probabilities_of_another_size():
    x = images()
    found = predict(sees_its_window, x, size=(60, 80))
    assert found.shape == (2, 3, 60, 80)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 60, 80))
    torch.testing.assert_close(found, F.interpolate(sees_its_window(x), (60, 80), mode="bilinear").softmax(1))


def test_half_precision_images_give_fp32_probabilities():
    options = InferenceOptions(window=(12, 16), scales=(0.5, 1.0), flip=True)
    found = predict(lambda x: x, images().bfloat16(), options)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, predict(lambda x: x, images(), options), atol=0.02, rtol=0)


def test_infer_sees_every_image_without_the_padding_of_its_batch(upernet):
    pictures = [images(1, size, seed)[0] for seed, size in enumerate([(24, 40), (17, 20), (24, 40)])]
    maps = [torch.zeros(size, dtype=torch.long) for size in ((48, 80), (17, 20), (48, 80))]
    samples = [SegmentationSample(*each) for each in zip(pictures, maps, strict=True)]
    batches = [
        collate(some, ignore_index=255, indices=torch.arange(len(some)), skipped=(), seconds=0.0, epoch=0)
        for some in (samples, [])
    ]
    model = nn.Sequential(upernet, nn.Dropout(0.9)).train()
    found = {}
    for part, probabilities in infer(model, batches, torch.device("cpu")):
        assert not probabilities.requires_grad
        found |= dict(zip(part.indices.tolist(), probabilities, strict=True))
    assert sorted(found) == [0, 1, 2]
    for row, (picture, labels) in enumerate(zip(pictures, maps, strict=True)):
        torch.testing.assert_close(found[row], predict(upernet, picture[None], size=labels.shape)[0])


@pytest.mark.parametrize("resize", [None, 12])
def test_a_predicted_map_has_the_size_of_its_image(upernet, resize):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (19, 26, 3), dtype=np.uint8))
    labels = predict_image(upernet, image, EvalTransform(HALF, resize))
    assert labels.shape == (19, 26)
    assert labels.dtype == torch.long
    if resize is None:
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        assert (labels == upernet(x)[0].argmax(0)).float().mean() > 0.999


def test_a_large_scale_shows_what_the_resized_image_has_lost():
    """Columns of two pixels, which are all grey at a quarter of the size."""
    columns = np.arange(64) // 2 % 2
    image = Image.fromarray(np.broadcast_to(255 * columns[None, :, None], (48, 64, 3)).astype(np.uint8))
    light_and_dark = nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        light_and_dark.weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3])[..., None, None])
    labels = predict_image(light_and_dark, image, EvalTransform(HALF, 12), InferenceOptions(scales=(1.0, 4.0)))
    assert np.array_equal(labels.numpy(), np.broadcast_to(columns, (48, 64)))
    (small,) = EvalTransform(HALF, 12).views(image)
    lost = predict(light_and_dark, small[None], InferenceOptions(scales=(1.0, 4.0)), (48, 64))[0]
    assert (lost[:, :, 8:-8] - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("options", [InferenceOptions(), InferenceOptions(scales=(0.5, 1.5), flip=True)])
def test_what_is_measured_is_what_is_predicted(upernet, options):
    random = np.random.default_rng(0)
    pictures = [
        Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in ((19, 26), (40, 33), (19, 26))
    ]
    transform = EvalTransform(HALF, 16, options.scales)
    made = [transform(picture, np.zeros((picture.height, picture.width), dtype=np.int32)) for picture in pictures]
    samples = [SegmentationSample(image, labels, tuple(others)) for image, labels, *others in made]
    batch = collate(samples, ignore_index=255, indices=torch.arange(3))
    seen = 0
    for part, probabilities in infer(upernet, [batch], torch.device("cpu"), options):
        for row, found in zip(part.indices.tolist(), probabilities, strict=True):
            expected = predict_image(upernet, pictures[row], EvalTransform(HALF, 16), options)
            assert (found.argmax(0) == expected).float().mean() > 0.999
            seen += 1
    assert seen == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (0, 8)}, r"window \(0, 8\)"),
        ({"stride": (8, 8)}, "moves no window"),
        ({"window": (8, 8), "stride": (8, 9)}, r"stride \(8, 9\) skips"),
        ({"window": (8, 8), "stride": (0, 8)}, r"stride \(0, 8\) skips"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 0.0)}, "scales"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        InferenceOptions(**options)


def test_windows_move_by_two_thirds_unless_told():
    assert InferenceOptions(window=(512, 1)).step == (341, 1)
    assert InferenceOptions(window=(512, 512), stride=(256, 256)).step == (256, 256)
    assert InferenceOptions().step is None


def test_a_stride_that_skips_pixels_is_refused():
    with pytest.raises(ValueError, match="skips pixels"):
        slide(sees_its_window, images(), (8, 8), (9, 8))

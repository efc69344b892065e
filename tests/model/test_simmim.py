"""SimMIM against the definition, computed by explicit loops in fp64."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from swinv2.config import SwinConfig
from swinv2.model import SimMIM, SwinTransformer
from swinv2.model.simmim import masked_loss, normalised, paint, pixel_shuffle, spread, unit_size

IMAGE = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 2), window_size=4)
CLIP = SwinConfig(
    embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 2, 2), merge_size=(1, 2, 2), window_size=(2, 4, 4)
)

CASES = {
    "image": ((2, 3, 12, 16), (3, 4), 5),
    "window beyond the image": ((1, 3, 12, 8), (3, 2), 47),
    "one channel, window per axis": ((1, 1, 8, 8), (2, 2), (3, 7)),
    "clip": ((1, 2, 4, 8, 6), (2, 2, 3), (3, 5, 5)),
    "clip, frame by frame": ((2, 3, 2, 8, 8), (1, 2, 2), (1, 5, 3)),
    "the pixels themselves": ((2, 3, 8, 8), (4, 4), None),
}


def pixels(size):
    return itertools.product(*map(range, size))


def around(place, size, window):
    return tuple(slice(max(p - w // 2, 0), min(p + w // 2 + 1, s)) for p, w, s in zip(place, window, size, strict=True))


def definition(painted, images, mask, window):
    """The loss as the paper and the released code state it: one pixel after the other."""
    painted, images = painted.double().numpy(), images.double().numpy()
    channels, size = images.shape[1], images.shape[2:]
    unit = [s // m for s, m in zip(size, mask.shape[1:], strict=True)]
    windows = (window,) * len(size) if isinstance(window, int) else window
    total, hidden = 0.0, 0
    for sample in range(len(images)):
        for place in pixels(size):
            if not mask[(sample, *(p // u for p, u in zip(place, unit, strict=True)))]:
                continue
            hidden += 1
            for channel in range(channels):
                target = images[(sample, channel, *place)]
                if window is not None:
                    near = images[sample, channel][around(place, size, windows)]
                    target = (target - near.mean()) / math.sqrt(max(near.var(ddof=1), 0.0) + 1e-6)
                total += abs(painted[(sample, channel, *place)] - target)
    return total / (hidden + 1e-5) / channels


def random_case(name):
    shape, units, window = CASES[name]
    generator = torch.Generator().manual_seed(7)
    images, painted = (torch.randn(shape, generator=generator) for _ in range(2))
    return images, painted, torch.rand((shape[0], *units), generator=generator) < 0.6, window


@pytest.mark.parametrize("name", CASES)
def test_loss_is_the_definition(name):
    images, painted, mask, window = random_case(name)
    assert masked_loss(painted, images, mask, window).item() == pytest.approx(
        definition(painted, images, mask, window), rel=1e-6
    )


def test_flat_areas_have_no_noise_in_their_target():
    """A white image far from zero: fp32 would leave 1e-4 and more of the difference of two equal squares."""
    images = torch.full((1, 3, 16, 16), 2.64)
    images[..., 8:] = -2.1
    target = normalised(images, 3)
    assert target[..., :7].abs().max() < 1e-6
    assert target[..., 7].abs().min() > 0.5


def test_normalisation_is_that_of_average_pooling():
    """The released code's way, at its size and window, in fp64."""
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64)

    def pooled(x):
        return nn.functional.avg_pool2d(x, 47, 1, 23, count_include_pad=False)

    count = nn.functional.avg_pool2d(torch.ones_like(images), 47, 1, 23, count_include_pad=True) * 47**2
    variance = (pooled(images**2) - pooled(images) ** 2) * (count / (count - 1))
    expected = (images - pooled(images)) / (variance.clamp(min=0) + 1e-6) ** 0.5
    torch.testing.assert_close(normalised(images, 47), expected.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("stride", [2, 32])
def test_pixel_shuffle_of_images_is_torchs(stride):
    x = torch.randn(2, 3 * stride**2, 3, 2)
    assert torch.equal(pixel_shuffle(x, (stride, stride)), nn.PixelShuffle(stride)(x))


def test_pixel_shuffle_of_clips_paints_each_token_by_its_own_channels():
    stride, grid = (2, 3, 4), (2, 1, 2)
    x = torch.arange(2 * 24 * 4).view(1, 48, *grid)
    out = pixel_shuffle(x, stride)
    assert out.shape == (1, 2, 4, 3, 8)
    for channel, *place in pixels((2, 4, 3, 8)):
        token = [p // s for p, s in zip(place, stride, strict=True)]
        within = np.ravel_multi_index([p % s for p, s in zip(place, stride, strict=True)], stride)
        assert out[(0, channel, *place)] == x[(0, channel * 24 + int(within), *token)]


@pytest.mark.parametrize(("config", "size"), [(IMAGE, (16, 12)), (CLIP, (4, 8, 12))], ids=["image", "clip"])
def test_masked_pixels_are_never_seen_and_the_others_are(config, size, randomise):
    model = randomise(SimMIM(config)).eval()
    images, units = torch.randn(1, 3, *size), tuple(s // 4 for s in size)
    mask = torch.zeros(1, *units, dtype=torch.bool)
    mask[(0, *(0 for _ in units))] = True
    hidden = spread(mask, unit_size(images, mask))[:, None]
    painted = model(images, mask)
    assert painted.shape == images.shape
    assert torch.equal(model(torch.where(hidden, 9.0, images), mask), painted)
    assert not torch.allclose(model(torch.where(hidden, images, 9.0), mask), painted)


@pytest.mark.parametrize(("config", "size"), [(IMAGE, (16, 12)), (CLIP, (4, 8, 12))], ids=["image", "clip"])
def test_only_masked_pixels_count_and_every_parameter_learns(config, size):
    model, images = SimMIM(config), torch.randn(2, 3, *size)
    mask = torch.zeros(2, *(s // 4 for s in size), dtype=torch.bool)
    mask[(slice(None), *(0 for _ in size))] = True
    painted = model(images, mask)
    painted.retain_grad()
    masked_loss(painted, images, mask, 5).backward()
    hidden = spread(mask, unit_size(images, mask))[:, None].expand_as(images)
    assert torch.equal(painted.grad != 0, hidden)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.mask_token.grad.abs().sum() > 0


def test_nothing_masked_is_the_encoder_alone(randomise):
    model = randomise(SimMIM(IMAGE)).eval()
    encoder = SwinTransformer(model.config).eval()
    extra = {"mask_token", "decoder.weight", "decoder.bias"}
    encoder.load_state_dict({name: x for name, x in model.state_dict().items() if name not in extra})
    images = torch.randn(1, 3, 16, 16)
    expected = nn.PixelShuffle(4)(model.decoder(encoder.forward_features(images)))
    torch.testing.assert_close(model(images, torch.zeros(1, 2, 2, dtype=torch.bool)), expected)


@pytest.mark.parametrize("patch", [(2, 2), (4, 4)])
def test_units_are_pixels_whatever_the_patch(patch):
    """The same mask hides the same pixels: no change of them changes what is painted."""
    config = SwinConfig(embed_dim=8, depths=(1,), num_heads=(1,), patch_size=patch, window_size=2)
    model, images = SimMIM(config).eval(), torch.randn(1, 3, 16, 16)
    mask = torch.tensor([[[True, False], [False, False]]])
    changed = images.clone()
    changed[..., :8, :8] = 5.0
    assert torch.equal(model(images, mask), model(changed, mask))


def test_an_image_smaller_than_the_last_token_is_painted_whole():
    model = SimMIM(IMAGE)
    assert model(torch.randn(1, 3, 6, 10), torch.ones(1, 3, 5, dtype=torch.bool)).shape == (1, 3, 6, 10)


def test_training_on_one_batch_learns_it():
    torch.manual_seed(0)
    model = SimMIM(SwinConfig(embed_dim=32, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 2), window_size=4))
    images = torch.randn(4, 3, 8, 8).repeat_interleave(2, 2).repeat_interleave(2, 3)
    mask = torch.rand(4, 4, 4) < 0.6
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = masked_loss(model(images, mask), images, mask, 7)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("window", [5, None])
def test_perfect_paint_is_the_image(window):
    images, mask = torch.rand(1, 3, 8, 8), torch.tensor([[[True, False], [False, True]]])
    pictures = paint(images, normalised(images, window), mask, window)
    torch.testing.assert_close(pictures, images, rtol=1e-5, atol=1e-6)
    blank = paint(images, torch.zeros_like(images), mask, None)
    assert torch.equal(blank == 0, spread(mask, (4, 4))[:, None].expand_as(images))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(1, 5, 4, dtype=torch.bool), r"\(1, 5, 4\) does not divide images of shape \(1, 3, 16, 16\)"),
        (torch.ones(2, 4, 4, dtype=torch.bool), r"\(2, 4, 4\) does not divide"),
        (torch.ones(1, 4, dtype=torch.bool), r"\(1, 4\) does not divide"),
        (torch.ones(1, 0, 4, dtype=torch.bool), r"\(1, 0, 4\) does not divide"),
        (torch.ones(1, 4, 4), "the mask is torch.float32, but must be boolean"),
        (
            torch.ones(1, 16, 16, dtype=torch.bool),
            r"units of \(1, 1\) pixels hold no whole number of patches of \(2, 2\)",
        ),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, words):
    with pytest.raises(ValueError, match=words):
        SimMIM(IMAGE)(torch.randn(1, 3, 16, 16), mask)


@pytest.mark.parametrize("window", [4, 0, 1, (3, 3, 3)])
def test_windows_that_are_none_are_refused(window):
    with pytest.raises(ValueError, match=r"target window .* is not an odd number"):
        normalised(torch.randn(1, 3, 8, 8), window)

"""UperNet: its heads against transformers', its logits against the pixels they belong to."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead

from swinv2.config import SwinConfig
from swinv2.info import ModelInfo
from swinv2.model import SwinBackbone, SwinTransformer
from swinv2.model.upernet import (
    BatchNorm,
    ConvHead,
    ConvNormReLU,
    PyramidHead,
    Segmenter,
    UperNet,
    UperNetConfig,
    to_pixels,
)
from swinv2.storage import Stored, write
from swinv2.tasks.models import load_model

SMALL = UperNetConfig(channels=8, auxiliary_channels=6)
IMAGE = SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)
CLIP = SwinConfig(
    embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 4, 4), merge_size=(1, 2, 2), window_size=(2, 4, 4)
)
CHANNELS = (8, 12, 16, 20)

NAMES = {  # transformers' names to ours
    r"psp_modules\.(\d)\.1": r"pools.\1",
    r"^bottleneck": "pool_fusion",
    "lateral_convs": "laterals",
    "fpn_convs": "outputs",
    "fpn_bottleneck": "fusion",
    r"\.conv\.": ".0.",
    r"\.batch_norm\.": ".1.",
}


def ours_from(theirs):
    state = {}
    for name, tensor in theirs.state_dict().items():
        for pattern, replacement in NAMES.items():
            name = re.sub(pattern, replacement, name)
        state[name] = tensor
    return state


def randomise_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    return model


def feature_maps(batch=2, sizes=((19, 26), (10, 13), (5, 7), (3, 4)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, *size, generator=generator) for c, size in zip(CHANNELS, sizes, strict=True)]


def transformers_config(convs):
    return transformers.UperNetConfig(
        hidden_size=SMALL.channels,
        auxiliary_channels=SMALL.auxiliary_channels,
        auxiliary_num_convs=convs,
        pool_scales=[1, 2, 3, 6],
        num_labels=5,
    )


def pairs_of_heads(convs):
    config = UperNetConfig(channels=8, auxiliary_channels=6, auxiliary_convs=convs, dropout=0.0)
    theirs = transformers_config(convs)
    yield PyramidHead(CHANNELS, 5, config), UperNetHead(theirs, CHANNELS), lambda maps: maps
    yield ConvHead(CHANNELS[2], 5, config), UperNetFCNHead(theirs, CHANNELS), lambda maps: maps[2]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("convs", [1, 2])
def test_heads_equal_those_of_transformers(convs, training, randomise):
    for ours, theirs, of in pairs_of_heads(convs):
        randomise_statistics(randomise(theirs)).train(training)
        ours.load_state_dict(ours_from(theirs))
        ours.train(training)
        maps = feature_maps()
        with torch.no_grad():
            expected, found = theirs(maps), ours(of(maps))
        assert expected.std() > 0.01
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
        for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(one, other)


def test_heads_of_other_weights_differ(randomise):
    """The comparison above can fail."""
    ours, theirs, _ = next(pairs_of_heads(1))
    ours.load_state_dict(ours_from(randomise_statistics(randomise(theirs)).eval()))
    ours.eval().pools[2][1].running_mean += 1.0
    maps = feature_maps()
    assert (ours(maps) - theirs(maps)).abs().max() > 1e-3 * theirs(maps).abs().max()


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (5, 90), (1, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_logits_have_the_size_of_the_images(size, training):
    model = UperNet(SwinBackbone(IMAGE), 3, SMALL).train(training)
    images = torch.randn(1, 3, *size)
    assert model(images).shape == (1, 3, *size)
    assert [x.shape for x in model(images, with_auxiliary=True)] == [(1, 3, *size)] * 2


@pytest.mark.parametrize("size", [(12, 8), (11, 5), (9, 7)])
def test_a_pixel_is_interpolated_between_the_tokens_around_it(size):
    """Also where the backbone padded: in one axis after the other, at (pixel + 1/2) / stride - 1/2."""
    stride, grid = (4, 2), (3, 4)
    logits = torch.randn(1, 2, *grid, dtype=torch.float64)
    expected = logits.numpy()
    for axis in (0, 1):
        places = (np.arange(size[axis]) + 0.5) / stride[axis] - 0.5
        tokens = np.arange(grid[axis])
        weights = np.array([np.interp(places, tokens, np.eye(grid[axis])[token]) for token in tokens])
        expected = np.moveaxis(np.tensordot(expected, weights, (2 + axis, 0)), -1, 2 + axis)
    np.testing.assert_allclose(to_pixels(logits, stride, size).numpy(), expected, rtol=1e-12, atol=1e-12)


class Flooring(nn.Module):
    """A backbone that is no Swin, and leaves out what does not fill a stride."""

    channels = (4, 6)
    strides = ((4, 4), (8, 8))

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2)

    def forward(self, x):
        first = self.first(x)
        return [first, self.second(first)]


def test_any_backbone_of_the_contract_serves():
    model = UperNet(Flooring(), 2, UperNetConfig(channels=8, auxiliary_channels=4, auxiliary_map=0))
    assert [x.shape for x in model(torch.randn(2, 3, 27, 35), with_auxiliary=True)] == [(2, 2, 27, 35)] * 2


def test_every_parameter_has_a_gradient(randomise):
    model = randomise(UperNet(SwinBackbone(IMAGE), 3, SMALL))
    logits, auxiliary = model(torch.randn(2, 3, 64, 64), with_auxiliary=True)
    (logits.square().mean() + 0.4 * auxiliary.square().mean()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_without_auxiliary_head():
    model = UperNet(SwinBackbone(IMAGE, (0, 1)), 3, UperNetConfig(channels=8, auxiliary_map=None))
    assert model.auxiliary_head is None
    assert not any("auxiliary" in name for name, _ in model.named_parameters())
    with pytest.raises(ValueError, match="no auxiliary head"):
        model(torch.randn(1, 3, 32, 32), with_auxiliary=True)


def test_one_value_a_channel_is_normalised_by_the_running_statistics():
    ours, theirs = BatchNorm(4), nn.BatchNorm2d(4).eval()
    for norm in (ours, theirs):
        torch.manual_seed(0)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    x = torch.randn(1, 4, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm2d(4)(x)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("training", [False, True])
def test_more_values_a_channel_are_normalised_as_usual(training):
    ours, theirs = BatchNorm(4).train(training), nn.BatchNorm2d(4).train(training)
    x = torch.randn(2, 4, 1, 1)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)


def test_batch_norms_can_be_synchronised():
    model = UperNet(SwinBackbone(IMAGE), 3, SMALL).eval()
    images = torch.randn(2, 3, 32, 32)
    before, names = model(images), list(model.state_dict())
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in synchronised.modules())
    assert list(synchronised.state_dict()) == names
    torch.testing.assert_close(synchronised(images), before)


def test_initial_weights_are_those_of_mmsegmentation():
    torch.manual_seed(0)
    model = UperNet(SwinBackbone(IMAGE), 150, UperNetConfig(channels=128))
    for head in (model.head, model.auxiliary_head):
        assert head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not head.classifier.bias.any()
    convs = [module[0].weight for module in model.modules() if isinstance(module, ConvNormReLU)]
    assert len(convs) == 4 + 1 + 3 + 3 + 1 + 1
    for weight in convs:
        fan_out = weight.shape[0] * weight[0, 0].numel()
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_published_heads_have_their_size():
    """mmsegmentation's UperNet of Swin-T for 150 classes has 59.94M parameters, of which the backbone has 27.52M."""
    channels = (96, 192, 384, 768)
    heads = (PyramidHead(channels, 150, UperNetConfig()), ConvHead(channels[2], 150, UperNetConfig()))
    assert sum(p.numel() for head in heads for p in head.parameters()) / 1e6 == pytest.approx(59.94 - 27.52, abs=0.01)


def test_configuration_survives_json():
    config = UperNetConfig(channels=64, pool_bins=(1, 4), auxiliary_map=None)
    assert UperNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_file_alone_rebuilds_the_model(randomise, tmp_path):
    model = randomise_statistics(
        randomise(Segmenter(replace(IMAGE, num_classes=3), channels=8, pool_bins=(1, 4)))
    ).eval()
    model.info = ModelInfo(classes=("sky", "road", "tree"))
    tensors = dict(model.state_dict())
    write(tmp_path / "model.safetensors", Stored(model.config, tensors, model.info, model.kind, model.head_config))
    again = load_model(tmp_path / "model.safetensors", "segmenter")
    images = torch.randn(1, 3, 40, 50)
    assert torch.equal(again(images), model(images))
    assert again.info == model.info
    wider = load_model(tmp_path / "model.safetensors", window_size=6)
    assert wider.config.trained_window_size[0] == (4, 4)
    assert not torch.equal(wider(images), model(images))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chanels": 3}, "'chanels' is no field.*nearest is 'channels'"),
        ({"channels": 0}, "channels 0"),
        ({"auxiliary_convs": 0}, "auxiliary_convs 0"),
        ({"pool_bins": []}, r"pool_bins \(\)"),
        ({"pool_bins": [0, 1]}, "pool_bins"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"auxiliary_weight": -0.4}, "auxiliary_weight -0.4"),
    ],
)
def test_impossible_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        UperNetConfig.from_dict(fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UperNet(SwinTransformer(IMAGE), 3), "SwinTransformer does not tell.*SwinBackbone"),
        (lambda: UperNet(SwinBackbone(CLIP), 3), "for images"),
        (lambda: UperNet(SwinBackbone(IMAGE, (0, 1)), 3), "auxiliary_map 2 is none of the backbone's 2 maps"),
        (lambda: UperNet(SwinBackbone(IMAGE, (3, 0)), 3, UperNetConfig(auxiliary_map=0)), "finest to the coarsest"),
        (lambda: UperNet(SwinBackbone(IMAGE), 0), "0 classes"),
    ],
)
def test_impossible_models_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

import sys

import pytest
import torch
from torch import nn

timm = pytest.importorskip("timm")

import swinv2  # noqa: E402
import swinv2.integrations.timm as ours  # noqa: E402
from swinv2.model.features import SwinBackbone  # noqa: E402

NANO = "swinv2lib_swinv2_nano"


def images(*size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def test_timm_lists_every_image_model_and_keeps_its_own():
    listed = timm.list_models("swinv2lib_*")
    assert {name.removeprefix("swinv2lib_") for name in listed} == {
        name for name, config in swinv2.VARIANTS.items() if config.ndim == 2
    }
    assert timm.models.model_entrypoint("swinv2_tiny_window8_256").__module__.startswith("timm.")
    assert not set(timm.list_models(module="swin_transformer_v2")) & set(listed)
    assert timm.list_pretrained("swinv2lib_*") == []


def test_a_classifier_is_ours_with_timms_keywords(randomise):
    model = timm.create_model(
        NANO, num_classes=7, in_chans=3, drop_path_rate=0.2, img_size=64, window_size=4, drop_rate=0.0
    )
    config = swinv2.create_model("swinv2_nano", num_classes=7, drop_path_rate=0.2, image_size=64, window_size=4).config
    assert model.config == config
    same = swinv2.SwinTransformer(config)
    same.load_state_dict(randomise(model).state_dict())
    x = images(64, 70)
    want = same.eval()(x)
    assert want.std() > 0.01
    assert torch.equal(model.eval()(x), want)
    assert torch.equal(model.forward_features(x), same.forward_features(x))
    assert torch.equal(model.forward_head(model.forward_features(x)), want)
    assert torch.equal(model.get_classifier()(model.forward_head(model.forward_features(x), pre_logits=True)), want)
    assert (model.num_classes, model.num_features, model.in_chans) == (7, 256, 3)


def test_without_a_head_and_without_pooling(randomise):
    model = randomise(timm.create_model(NANO, num_classes=0)).eval()
    x = images(64, 96)
    features = model.forward_features(x)
    torch.testing.assert_close(model(x), features.mean((2, 3)))
    assert isinstance(model.get_classifier(), nn.Identity)
    assert torch.equal(
        timm.create_model(NANO, num_classes=0, global_pool="").eval()(x).isfinite().all(), torch.tensor(True)
    )
    model.reset_classifier(0, "")
    assert torch.equal(model(x), features)
    model.reset_classifier(5, "avg")
    assert model(x).shape == (2, 5)
    assert model.config.num_classes == model.num_classes == 5
    model.reset_classifier(3)
    assert model.get_classifier().weight.shape == (3, 256)
    assert 0.015 < model.get_classifier().weight.std() < 0.025
    assert not model.get_classifier().bias.any()


@pytest.mark.parametrize("indices", [None, (1, 3), (0, -1), 2])
def test_features_only(indices, randomise):
    keywords = {} if indices is None else {"out_indices": indices}
    features = randomise(timm.create_model(NANO, features_only=True, in_chans=1, **keywords)).eval()
    assert isinstance(features, SwinBackbone)
    chosen = {None: (0, 1, 2, 3), (0, -1): (0, 3), 2: (2, 3)}.get(indices, indices)
    assert features.feature_info.channels() == [32 * 2**i for i in chosen]
    assert features.feature_info.reduction() == [4 * 2**i for i in chosen]
    maps = features(images(64, 96)[:, :1])
    assert [tuple(x.shape) for x in maps] == [(2, 32 * 2**i, 16 // 2**i, 24 // 2**i) for i in chosen]
    assert not features.norms


def test_features_only_keeps_weights_that_timm_loads(tmp_path, randomise):
    model = randomise(timm.create_model(NANO, num_classes=3)).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    same = timm.create_model(NANO, num_classes=3, checkpoint_path=str(tmp_path / "weights.pth")).eval()
    assert torch.equal(same(images(64, 64)), model(images(64, 64)))
    overlay = {"file": str(tmp_path / "weights.pth"), "num_classes": 3}
    features = timm.create_model(
        NANO, pretrained=True, pretrained_cfg_overlay=overlay, features_only=True, num_classes=3
    ).eval()
    for got, want in zip(features(images(64, 64)), model.feature_maps(images(64, 64)), strict=True):
        assert torch.equal(got, want)


def test_timm_reads_our_files(tmp_path, randomise):
    model = randomise(swinv2.create_model("swinv2_nano", num_classes=3)).eval()
    swinv2.save(model, tmp_path / "weights.safetensors")
    same = timm.create_model(NANO, num_classes=3, checkpoint_path=str(tmp_path / "weights.safetensors")).eval()
    assert torch.equal(same(images(64, 64)), model(images(64, 64)))


def test_no_weights_are_claimed():
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model(NANO, pretrained=True)


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"drop_rate": 0.1}, "drop_rate is 0.1, but Swin has no dropout"),
        ({"global_pool": "max"}, "global_pool is 'max' with 1000 classes: use 'avg'"),
        ({"global_pool": ""}, "global_pool is '' with 1000 classes"),
        ({"attn_drop_rate": 0.1}, "SwinConfig has no field 'attn_drop_rate'"),
        ({"out_indices": (0,)}, "SwinConfig has no field 'out_indices'"),
        ({"features_only": True, "out_indices": (4,)}, "each from -4 to 3"),
    ],
)
def test_what_we_lack_is_refused(keywords, sentence):
    with pytest.raises(ValueError, match=sentence):
        timm.create_model(NANO, **keywords)


def test_timms_optimisers_and_input_settings_understand_the_model():
    from timm.data import resolve_data_config
    from timm.models import group_parameters
    from timm.optim import create_optimizer_v2

    model = timm.create_model(NANO, num_classes=5)
    settings = resolve_data_config({}, model=model)
    assert settings["input_size"] == (3, 256, 256)
    assert (settings["interpolation"], settings["crop_pct"]) == ("bicubic", 0.9)
    layers = group_parameters(model, model.group_matcher())
    assert len(layers) == 1 + 8 + 1
    assert {name.split(".")[0] for name in layers[0]} == {"patch_embed"}
    assert layers[9] == ["head.weight", "head.bias"]
    assert "norm.weight" in layers[8]
    assert "stages.1.merge.reduction.weight" in layers[3]
    assert len(group_parameters(model, model.group_matcher(coarse=True))) == 1 + 4 + 1
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05)
    undecayed = {id(p) for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    by_name = dict(model.named_parameters())
    assert {name for name in by_name if id(by_name[name]) in undecayed} == {
        name for name, p in by_name.items() if p.ndim <= 1 or "position_bias" in name
    }


def test_checkpointing_by_timms_name():
    model = timm.create_model(NANO)
    model.set_grad_checkpointing()
    assert model.stages[0].blocks[0].checkpointing
    model.set_grad_checkpointing(False)
    assert not model.stages[0].blocks[0].checkpointing


def test_registering_happens_in_this_module_only():
    assert sys.modules["swinv2.integrations.timm"] is ours
    assert set(ours.NAMES) <= set(timm.list_models())

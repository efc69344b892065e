import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")

import swinv2  # noqa: E402
from swinv2.integrations.transformers import SwinBackboneConfig, SwinBackboneModel  # noqa: E402
from swinv2.model.block import Residual  # noqa: E402
from swinv2.model.features import SwinBackbone  # noqa: E402

FIELDS = {"embed_dim": 8, "depths": (2, 1, 2, 1), "num_heads": (1, 2, 2, 4), "window_size": 4, "num_classes": 0}


def described(**overrides):
    return SwinBackboneConfig(swinv2.SwinConfig(**FIELDS), **overrides)


def images(*size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def test_auto_backbone_builds_ours(randomise):
    model = transformers.AutoBackbone.from_config(described(out_features=["stage1", "stage3"]))
    assert isinstance(model, SwinBackboneModel)
    randomise(model).eval()
    assert (model.channels, model.num_features) == ([8, 32], [8, 16, 32, 64])
    assert (model.out_indices, model.stage_names) == ([0, 2], ["stage1", "stage2", "stage3", "stage4"])
    assert len(model.backbone.stages) == 3, "what no output needs is not built"
    output = model(pixel_values=images(33, 40))
    assert all(map(torch.equal, output.feature_maps, model.backbone(images(33, 40))))
    assert [tuple(x.shape) for x in output.feature_maps] == [(2, 8, 9, 10), (2, 32, 3, 3)]
    as_tuple = model(images(33, 40), return_dict=False)
    assert torch.equal(as_tuple[0][1], output.feature_maps[1])
    assert model.forward_with_filtered_kwargs(images(33, 40), output_hidden_states=False, output_attentions=True)


def test_transformers_keeps_its_own_swin():
    theirs = transformers.Swinv2Config(embed_dim=8, depths=[1, 1], num_heads=[1, 2])
    assert type(transformers.AutoBackbone.from_config(theirs)) is transformers.Swinv2Backbone


def test_weights_start_as_ours_do():
    """transformers would draw all of them anew, norms on branches included."""
    model = transformers.AutoBackbone.from_config(described(out_indices=[0, 3]))
    branches = {id(module.norm_branch) for module in model.modules() if isinstance(module, Residual)}
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == (id(module) not in branches)).all()
            assert not module.bias.any()
        elif isinstance(module, nn.Linear) and module.weight.numel() > 1000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert len(branches) == 12
    bound = 48**-0.5  # PyTorch's default draws within 1 / sqrt(fan in)
    assert 0.9 * bound < model.backbone.patch_embed.projection.weight.abs().max() <= bound


@pytest.mark.parametrize("auto", ["AutoModel", "ours"])
def test_saved_and_loaded(auto, tmp_path, randomise):
    config = described(out_features=["stage2", "stage4"], out_norm=auto == "ours", frozen_stages=1)
    model = randomise(SwinBackboneModel(config)).eval()
    model.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    read = transformers.AutoConfig.from_pretrained(tmp_path)
    assert type(read) is SwinBackboneConfig
    assert swinv2.SwinConfig.from_dict(read.swin) == model.backbone.config
    loader = transformers.AutoModel if auto == "AutoModel" else SwinBackboneModel
    again = loader.from_pretrained(tmp_path)
    assert type(again) is SwinBackboneModel
    for got, want in zip(again(images(32, 40)).feature_maps, model(images(32, 40)).feature_maps, strict=True):
        assert torch.equal(got, want)
    assert again.backbone.frozen_stages == 1
    assert not any(p.requires_grad for p in again.backbone.stages[0].parameters())
    assert all(p.requires_grad for p in again.backbone.stages[1].parameters())


def test_what_a_checkpoint_lacks_starts_fresh_and_what_it_has_is_kept(tmp_path, randomise):
    saved = randomise(SwinBackboneModel(described(out_features=["stage2"]))).eval()
    saved.save_pretrained(tmp_path)
    model = SwinBackboneModel.from_pretrained(tmp_path, out_features=["stage1", "stage2", "stage4"])
    old = saved.state_dict()
    for name, tensor in model.state_dict().items():
        assert tensor.isfinite().all(), name
        if name in old:
            assert torch.equal(tensor, old[name]), name
    assert (model.backbone.norms["0"].weight == 1).all()
    assert not model.backbone.norms["3"].bias.any()
    block = model.backbone.stages[3].blocks[0]
    assert not block.attention.norm_branch.weight.any()
    assert block.mlp.body.fc1.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert block.attention.body.logit_scale.exp().tolist() == pytest.approx([10.0] * 4)


def test_a_patch_embedding_that_is_missing_is_drawn(tmp_path):
    from safetensors.torch import load_file, save_file

    SwinBackboneModel(described()).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state = {name: tensor for name, tensor in state.items() if "projection" not in name}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    weight = SwinBackboneModel.from_pretrained(tmp_path).backbone.patch_embed.projection.weight
    assert 0.5 < weight.abs().max().item() * 48**0.5 <= 1.0, "PyTorch's default draws within 1 / sqrt(fan in)"


def test_our_weights_in_their_clothes(tmp_path, randomise):
    backbone = randomise(SwinBackbone(swinv2.SwinConfig(**FIELDS), (0, 3), frozen_stages=2)).eval()
    model = SwinBackboneModel.wrap(backbone)
    assert model.backbone is backbone
    assert not model.training
    model.save_pretrained(tmp_path)
    again = transformers.AutoModel.from_pretrained(tmp_path)
    assert all(map(torch.equal, again(images(32, 32)).feature_maps, backbone(images(32, 32))))
    with pytest.raises(ValueError, match="in the same order"):
        SwinBackboneModel.wrap(SwinBackbone(swinv2.SwinConfig(**FIELDS), (3, 0)))


def test_upernet_trains_on_it_and_leaves_nothing_unused(tmp_path, randomise):
    """A model of theirs that takes any backbone; its own auxiliary head is off."""
    config = transformers.UperNetConfig(
        backbone_config=described(out_indices=range(4), frozen_stages=1),
        hidden_size=16,
        num_labels=3,
        use_auxiliary_head=False,
    )
    model = randomise(transformers.UperNetForSemanticSegmentation(config)).train()
    labels = torch.randint(0, 3, (2, 64, 96), generator=torch.Generator().manual_seed(0))
    output = model(pixel_values=images(64, 96), labels=labels)
    assert output.logits.shape == (2, 3, 64, 96)
    output.loss.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    model.save_pretrained(tmp_path)
    again = transformers.UperNetForSemanticSegmentation.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(images(64, 96)).logits, model.eval()(images(64, 96)).logits)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="out_features must be a subset of stage_names"):
        described(out_features=["stem"])
    with pytest.raises(ValueError, match="num_heads"):
        SwinBackboneConfig({"depths": [1]})
    with pytest.raises(ValueError, match="5 stages cannot be frozen"):
        SwinBackboneModel(described(frozen_stages=5))
    model = SwinBackboneModel(described())
    with pytest.raises(ValueError, match="no hidden states or attentions"):
        model(images(32, 32), output_hidden_states=True)
    model.out_features = ["stage1"]
    with pytest.raises(ValueError, match=r"now \['stage1'\], but only those given at the start are built"):
        model(images(32, 32))

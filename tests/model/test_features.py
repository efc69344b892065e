import copy
import itertools
import subprocess
import sys

import pytest
import torch
from torch import nn

import swinv2
from swinv2.model.backbone import create_model
from swinv2.model.features import FeatureInfo, NamedMaps, SwinBackbone

FIELDS = {"embed_dim": 8, "depths": (2, 1, 2, 1), "num_heads": (1, 2, 2, 4), "window_size": 4}
SUBSETS = [c for n in range(1, 5) for c in itertools.combinations(range(4), n)]


def config(**overrides):
    return swinv2.SwinConfig(**{**FIELDS, "num_classes": 3, **overrides})


def images(*size, seed=0):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def without_gradient(model):
    return [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1), (20, 224)])
def test_maps_are_the_classifiers_own_each_normalised(size, randomise):
    model = randomise(swinv2.SwinTransformer(config())).eval()
    backbone = SwinBackbone(model, (0, 2, 3))
    for number, norm in enumerate(backbone.norms.values()):
        randomise(norm, seed=number)
    maps, whole = backbone(images(*size)), model.feature_maps(images(*size))
    grids = model.config.grids(size)
    for x, i in zip(maps, backbone.out_indices, strict=True):
        assert x.shape == (2, model.config.dims[i], *grids[i])
        assert x.is_contiguous(memory_format=torch.channels_last)
        norm = backbone.norms[str(i)]
        centred = whole[i] - whole[i].mean(1, keepdim=True)
        want = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        want = want * norm.weight[:, None, None] + norm.bias[:, None, None]
        torch.testing.assert_close(x, want, rtol=1e-5, atol=1e-5)
    plain = SwinBackbone(model, (0, 2, 3), out_norm=False)
    assert all(torch.equal(a, whole[i]) for a, i in zip(plain(images(*size)), (0, 2, 3), strict=True))


def test_video(randomise):
    video = config(patch_size=(2, 4, 4), merge_size=(1, 2, 2), window_size=(2, 4, 4))
    backbone = randomise(SwinBackbone(video, (1, -1))).eval()
    maps = backbone(torch.randn(1, 3, 5, 33, 40))
    assert [tuple(x.shape) for x in maps] == [(1, 16, 3, 5, 5), (1, 64, 3, 2, 2)]
    assert all(x.is_contiguous(memory_format=torch.channels_last_3d) for x in maps)
    assert backbone.strides == ((2, 8, 8), (2, 32, 32))
    assert backbone.feature_info.reduction() == [(2, 8, 8), (2, 32, 32)]


@pytest.mark.parametrize(
    ("given", "resolved"),
    [(None, (0, 1, 2, 3)), (2, (2, 3)), ((1,), (1,)), ([3, 0], (3, 0)), ((0, -1), (0, 3)), (range(1, 3), (1, 2))],
)
def test_stages_are_chosen_in_any_order_from_both_ends(given, resolved, randomise):
    model = randomise(swinv2.SwinTransformer(config())).eval()
    backbone = SwinBackbone(model, given, out_norm=False)
    assert backbone.out_indices == resolved
    assert backbone.channels == tuple(8 * 2**i for i in resolved)
    assert backbone.strides == tuple((4 * 2**i,) * 2 for i in resolved)
    whole = model.feature_maps(images(40, 32))
    assert all(torch.equal(x, whole[i]) for x, i in zip(backbone(images(40, 32)), resolved, strict=True))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((), r"out_indices is \(\), but must name at least one stage, each from -4 to 3"),
        ((0, 4), r"out_indices is \(0, 4\), but must name at least one stage, each from -4 to 3"),
        ((-5,), "each from -4 to 3"),
        (("stage1",), "each from -4 to 3"),
        ((0, 3, -1), r"out_indices \(0, 3, -1\) names a stage twice \(of 4 stages\): name each once"),
        (5, "asks for the last 5 of 4 stages"),
        (0, "asks for the last 0 of 4 stages"),
    ],
)
def test_wrong_stages_are_refused_in_one_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        SwinBackbone(config(), given)


def test_what_is_no_architecture_is_refused():
    with pytest.raises(
        ValueError, match=r"not of 'swinv2_nano': create_model\(name, features_only=True\) takes a name"
    ):
        SwinBackbone("swinv2_nano")


@pytest.mark.parametrize("out_norm", [True, False])
@pytest.mark.parametrize("indices", SUBSETS, ids=str)
def test_no_parameter_is_unused(indices, out_norm, randomise):
    backbone = randomise(SwinBackbone(config(), indices, out_norm=out_norm, frozen_stages=0))
    sum((x * torch.linspace(-1, 1, x.shape[1])[:, None, None]).sum() for x in backbone(images(32, 40))).backward()
    assert without_gradient(backbone) == []
    assert len(backbone.stages) == max(indices) + 1
    assert list(backbone.norms) == ([str(i) for i in indices] if out_norm else [])


def test_names_of_the_common_parts_are_the_classifiers(randomise):
    model = randomise(swinv2.SwinTransformer(config()))
    backbone = SwinBackbone(config(), (0, 3))
    result = backbone.load_state_dict(model.state_dict(), strict=False)
    assert result.unexpected_keys == ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    assert result.missing_keys == [f"norms.{i}.{part}" for i in (0, 3) for part in ("weight", "bias")]
    assert torch.equal(backbone.eval()(images(32, 32))[1], SwinBackbone(model.eval(), (0, 3))(images(32, 32))[1])


def test_a_models_parts_are_taken_over_not_copied():
    model = swinv2.SwinTransformer(config(drop_path_rate=0.3)).to(torch.float64).eval()
    backbone = SwinBackbone(model, (1, 0))
    shared = dict(model.named_parameters())
    for name, parameter in backbone.named_parameters():
        assert parameter.dtype == torch.float64
        if name.startswith("norms."):
            assert (parameter == name.endswith("weight")).all()
        else:
            assert parameter is shared[name]
    assert not backbone.training
    assert backbone.config == config(drop_path_rate=0.3, num_classes=0)
    again = SwinBackbone(backbone, (-1,), out_norm=False)
    assert again.out_indices == (1,)
    with pytest.raises(ValueError, match="from -2 to 1"):
        SwinBackbone(backbone, (2,))


def test_drop_path_rates_do_not_depend_on_the_stages_that_are_built():
    whole = swinv2.SwinTransformer(config(drop_path_rate=0.5))
    part = SwinBackbone(config(drop_path_rate=0.5), (1,))
    rates = [
        [block.attention.drop_path.rate for stage in model.stages for block in stage.blocks] for model in (whole, part)
    ]
    assert rates[1] == rates[0][:3] == pytest.approx([0.0, 0.1, 0.2])


def test_create_model_makes_backbones(randomise):
    backbone = create_model("swinv2_nano", features_only=True, out_indices=(1, 2), frozen_stages=1, window_size=4)
    assert isinstance(backbone, SwinBackbone)
    assert backbone.out_indices == (1, 2)
    assert backbone.frozen_stages == 1
    assert not backbone.norms
    assert backbone.config.window_size[0] == (4, 4)
    assert list(create_model("swinv2_nano", features_only=True, out_norm=True).norms) == list("0123")
    assert create_model("swinv2_nano", frozen_stages=4, num_classes=7).head.out_features == 7
    for keywords in ({"out_indices": (0,)}, {"out_norm": True}):
        with pytest.raises(ValueError, match="pass features_only=True with them"):
            create_model("swinv2_nano", **keywords)


def test_feature_info_answers_as_timms_does():
    peer = pytest.importorskip("timm.models").FeatureInfo
    ours = FeatureInfo(config(), (1, 3))
    theirs = peer(copy.deepcopy(ours.info), (1, 3))
    for index in (None, 2, [0, -1]):
        for ask in ("channels", "reduction", "module_name"):
            assert getattr(ours, ask)(index) == getattr(theirs, ask)(index)
        assert ours.get_dicts(idx=index) == theirs.get_dicts(idx=index)
        assert ours.get_dicts(["num_chs"], index) == theirs.get_dicts(["num_chs"], index)
    assert (len(ours), ours[3], ours.out_indices) == (len(theirs), theirs[3], theirs.out_indices)
    assert ours.channels() == [16, 64]
    assert ours.reduction() == [8, 32]
    names = dict(SwinBackbone(config()).named_modules())
    assert all(name in names for name in ours.module_name(range(4)))


@pytest.mark.parametrize(
    ("peer_name", "name"), [("swinv2_tiny_window8_256", "swinv2_tiny"), ("swin_tiny_patch4_window7_224", "swin_tiny")]
)
def test_same_maps_as_timm(peer_name, name, randomise):
    """256 pixels for V2 and 224 for V1, where no stage pads (timm shifts before it pads)."""
    timm = pytest.importorskip("timm")
    peer = randomise(timm.create_model(peer_name)).eval()
    features = timm.create_model(peer_name, features_only=True, out_indices=(0, 1, 2, 3)).eval()
    window, size = (8, 256) if "v2" in name else (7, 224)
    state = {key.removeprefix("model."): tensor for key, tensor in peer.state_dict().items()}
    loaded = swinv2.load(state, window_size=window, image_size=size)
    inner = features.model if hasattr(features, "model") else features
    own = {key: state[key if key in state else key.replace("layers_", "layers.")] for key in inner.state_dict()}
    inner.load_state_dict(own)
    backbone = SwinBackbone(loaded, out_norm=False)
    assert backbone.feature_info.channels() == features.feature_info.channels()
    assert backbone.feature_info.reduction() == features.feature_info.reduction()
    with torch.inference_mode():
        maps, wanted = backbone(images(size, size)), features(images(size, size))
    for got, want in zip(maps, wanted, strict=True):
        want = want if want.shape == got.shape else want.movedim(-1, 1)
        assert want.std() > 0.1, "a degenerate model would agree with anything"
        error = (got - want).abs().max() / want.abs().max()
        assert error <= 1e-5, f"{error:.1e}"


def test_feeds_torchvisions_feature_pyramid():
    pyramid = pytest.importorskip("torchvision").ops.FeaturePyramidNetwork
    backbone = SwinBackbone(config(), (1, 2, 3))
    detector = nn.Sequential(backbone, NamedMaps(), pyramid(list(backbone.channels), 16))
    maps = detector(images(64, 96))
    assert {name: tuple(x.shape[1:]) for name, x in maps.items()} == {
        "0": (16, 8, 12),
        "1": (16, 4, 6),
        "2": (16, 2, 3),
    }


DISTRIBUTED = """
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import swinv2
from swinv2.model.features import SwinBackbone

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
fields = dict(embed_dim=8, depths=(2, 1, 2, 1), num_heads=(1, 2, 2, 4), window_size=4)


class Maps(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.feature_maps(x)


def steps(model, count=3):
    wrapped = DistributedDataParallel(model)
    for step in range(count):
        x = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(2 * step + rank))
        model.zero_grad()
        sum(y.sin().sum() for y in wrapped(x)).backward()


def mean_of_both(model, step):
    for r in range(2):
        x = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(2 * step + r))
        (sum(y.sin().sum() for y in model(x)) / 2).backward()


for frozen, indices in ((0, (0, 1, 2, 3)), (0, (1,)), (2, (0, 3))):
    torch.manual_seed(0)
    backbone = SwinBackbone(swinv2.SwinConfig(**fields), indices, frozen_stages=frozen)
    with torch.no_grad():
        for p in backbone.parameters():
            p.normal_(0.0, 0.2)
    steps(backbone)
    got = {n: p.grad.clone() for n, p in backbone.named_parameters() if p.requires_grad}
    backbone.zero_grad()
    mean_of_both(backbone, 2)
    for name, p in backbone.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(got[name], p.grad, rtol=1e-4, atol=1e-5)

try:
    steps(Maps(swinv2.SwinTransformer(swinv2.SwinConfig(**fields))))
except RuntimeError as error:
    assert "did not receive grad" in str(error) or "finished reduction" in str(error), error
else:
    raise AssertionError("this check cannot fail: DDP accepted unused parameters")
print("agreed")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_find_nothing_unused(tmp_path):
    script = tmp_path / "distributed.py"
    script.write_text(DISTRIBUTED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("agreed") == 2

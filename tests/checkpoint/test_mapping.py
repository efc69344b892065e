"""Conversions to and from every format: exact, complete, loadable by the installed classes, and refused where they
cannot be."""

import importlib
import random
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import swinv2
from swinv2.checkpoint import writing
from swinv2.checkpoint.layouts import BUFFERS
from swinv2.storage import Stored

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")
transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parent))
peers = importlib.import_module("peers")
plain = importlib.import_module("plain")
Spec = peers.Spec

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:the mask token and decoder of the pre-training"),
]
V1, V2 = Spec(version=1), Spec()
EXTRA = Spec(depths=(2, 4), extra_norm_interval=2)
EXTENDED = Spec(window=(8, 8), image_size=(64, 64), trained=(4, 2))
CLIPS = Spec(version=1, window=(2, 4, 4), image_size=(16, 32, 32))
KINDS = {
    "microsoft V1": (peers.microsoft, V1),
    "microsoft V2": (peers.microsoft, V2),
    "microsoft V2 with extra norms": (peers.microsoft, EXTRA),
    "SimMIM V1": (peers.simmim, V1),
    "SimMIM V2": (peers.simmim, V2),
    "timm V1": (peers.timm, V1),
    "timm V2": (peers.timm, V2),
    "transformers V1": (peers.transformers_classifier, V1),
    "transformers V2": (peers.transformers_classifier, V2),
    "transformers V1 bare": (peers.transformers_bare, V1),
    "transformers V2 bare": (peers.transformers_bare, V2),
    "transformers V1 masked": (peers.transformers_masked, V1),
    "transformers V2 masked": (peers.transformers_masked, V2),
    "torchvision V1": (peers.torchvision, V1),
    "torchvision V2": (peers.torchvision, V2),
    "torchvision V1 video": (peers.torchvision, CLIPS),
    "mmpretrain V1": (peers.mmpretrain, V1),
    "mmpretrain V2": (peers.mmpretrain, V2),
    "mmpretrain V2 with extra norms": (peers.mmpretrain, EXTRA),
}
FOREIGN = ("microsoft", "timm", "transformers", "torchvision", "mmpretrain")
EACH_FORMAT = [f"{name} V{version}" for name in FOREIGN for version in (1, 2)]


@pytest.fixture(scope="module")
def built():
    """A reference of each kind, built once."""
    return {kind: build(spec) for kind, (build, spec) in KINDS.items()}


def parameters(state):
    return {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in BUFFERS}


def images(spec=V2, batch=2):
    return torch.randn(batch, 3, *spec.image_size, generator=torch.Generator().manual_seed(0))


def same(got, want):
    """Equal names, dtypes and bits."""
    return got.keys() == want.keys() and all(
        got[name].dtype == want[name].dtype and torch.equal(got[name], want[name]) for name in want
    )


# Round trips


DTYPES = [(kind, torch.float32) for kind in KINDS] + [
    (kind, dtype) for kind in EACH_FORMAT for dtype in (torch.bfloat16, torch.float16)
]


@pytest.mark.parametrize(("kind", "dtype"), DTYPES, ids=str)
def test_files_come_back_bit_for_bit(kind, dtype, built, tmp_path):
    peer = built[kind]
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in peer.state.items()}
    torch.save(state, tmp_path / "a.pth")
    swinv2.convert(tmp_path / "a.pth", to="swinv2", path=tmp_path / "native.safetensors", **peer.untold)
    swinv2.convert(tmp_path / "native.safetensors", to=peer.format, path=tmp_path / "b.safetensors")
    assert same(parameters(load_file(tmp_path / "b.safetensors")), parameters(state))
    swinv2.convert(tmp_path / "b.safetensors", to=peer.format, path=tmp_path / "c.pth")
    back = torch.load(tmp_path / "c.pth", weights_only=True)
    wrapper = {"microsoft": "model", "mmpretrain": "state_dict"}.get(peer.format)
    assert same(parameters(back if wrapper is None else back[wrapper]), parameters(state))


@pytest.mark.parametrize("name", ["swinv2_nano", "swin_tiny", "swin_video_tiny"])
@pytest.mark.parametrize("to", FOREIGN)
def test_models_come_back_bit_for_bit(name, to, randomise):
    sizes = {"embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8), "num_classes": 3}
    model = randomise(swinv2.create_model(name, **sizes))
    if name == "swin_video_tiny" and to != "torchvision":
        with pytest.raises(ValueError, match=f"^The {to} format has no V1 models of 3 axes: use 'swinv2'.$"):
            save_as(model, to)
    else:
        config = model.config
        windows = {"window_size": config.window_size, "trained_window_size": config.trained_window_size}
        assert same(swinv2.convert(save_as(model, to), to="swinv2", **windows), model.state_dict())


def save_as(model, to):
    """The state dict of a model in a format."""
    return writing.state_dict(Stored(model.config, model.state_dict(), model.info), to)


# What the installed classes take


@pytest.mark.parametrize(
    ("build", "spec"),
    [
        (peers.timm, V1),
        (peers.timm, V2),
        (peers.timm, EXTENDED),
        (peers.torchvision, V1),
        (peers.torchvision, V2),
        (peers.torchvision, CLIPS),
        *((peers.torchvision, Spec(window=(w, w), image_size=(8 * w, 8 * w))) for w in (5, 7, 8, 12)),
    ],
)
def test_classes_load_strictly_and_find_their_own_buffers(build, spec):
    """A fresh object of the class keeps its buffers, bit for bit, and gives our logits."""
    want, fresh = build(spec), build(spec)
    native = swinv2.convert(want.state, to="swinv2", **spec.untold)
    windows = {} if spec.version == 1 else spec.untold
    state = swinv2.convert(native, to=want.format, **windows)
    for name, buffer in fresh.model.named_buffers():
        assert name not in state or torch.equal(state[name], buffer), name
    peers.randomise(fresh.model, seed=1)
    fresh.model.load_state_dict(state, strict=True)
    with torch.inference_mode():
        assert torch.equal(fresh.run(images(spec)), want.run(images(spec)))


def test_torchvision_extrapolates_with_the_buffers_of_another_trained_window():
    """Its classes have no such setting, but they keep the coordinates in their state dict."""
    want = peers.timm(EXTENDED)
    fresh = peers.torchvision(Spec(window=EXTENDED.window, image_size=EXTENDED.image_size))
    fresh.model.load_state_dict(swinv2.convert(want.state, to="torchvision", **want.untold), strict=True)
    with torch.inference_mode():
        x = images(EXTENDED)
        assert relative_error(fresh.run(x), want.run(x)) < 2e-6


@pytest.mark.parametrize("version", [1, 2])
def test_microsofts_buffers(version):
    want = plain.Swin(**peers.plain_fields(Spec(version=version)))
    state = swinv2.convert(want.state_dict(), to="microsoft")
    assert state.keys() == want.state_dict().keys()
    for name, buffer in want.named_buffers():
        torch.testing.assert_close(state[name], buffer, rtol=1e-6, atol=1e-7)


def relative_error(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


FOLDERS = [
    (kind, spec)
    for kind in ("ForImageClassification", "Model", "ForMaskedImageModeling")
    for spec in (V1, V2, EXTENDED, Spec(window=(8, 8)), Spec(window=(8, 8), trained=(4, 2)))
]


@pytest.mark.parametrize(("kind", "spec"), FOLDERS)
def test_folders_of_transformers(kind, spec, tmp_path):
    """A folder of save_pretrained needs no further word, and ours is one that from_pretrained takes, strictly."""
    build = getattr(transformers, f"Swin{'' if spec.version == 1 else 'v2'}{kind}")
    want = peers.randomise(build(peers.transformers_config(spec)))

    def run(model, x):
        return model(x)[0]  # logits, tokens, or the painted image

    with peers.quiet(), torch.inference_mode():
        want.save_pretrained(tmp_path / "theirs")
        x = images(spec)
        ours = swinv2.load(tmp_path / "theirs")
        if kind == "ForImageClassification":
            assert relative_error(ours(x), want(x).logits) < 2e-6
        swinv2.convert(tmp_path / "theirs", to="transformers", path=tmp_path / "ours")
        back, report = build.from_pretrained(tmp_path / "ours", output_loading_info=True)
        assert not any(report.values())
        assert same(back.state_dict(), want.state_dict())
        assert relative_error(run(back.eval(), x), run(want, x)) < 1e-6  # products depend on where memory lies
    for name in ("window_size", "depths", "num_heads", "embed_dim", "mlp_ratio", "image_size", "architectures"):
        assert getattr(back.config, name) == getattr(want.config, name), name


def test_our_own_folder_names_the_classes(tmp_path, randomise):
    model = randomise(swinv2.create_model("swinv2_nano", window_size=4, image_size=64, num_classes=2)).eval()
    swinv2.save(model, tmp_path / "folder", to="transformers", classes=["cat", "dog"])
    with peers.quiet(), torch.inference_mode():
        theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "folder").eval()
        x = torch.randn(1, 3, 64, 64)
        assert relative_error(theirs(x).logits, model(x)) < 2e-6
    assert theirs.config.id2label == {0: "cat", 1: "dog"}
    assert swinv2.load(tmp_path / "folder").info.classes == ("cat", "dog")


# Spellings, and what lies beside a backbone


def test_spellings():
    v1 = peers.transformers_classifier(V1)
    in_memory = v1.model.state_dict()  # names parts otherwise than its files
    assert any(".q_proj." in name for name in in_memory)
    assert same(swinv2.convert(in_memory, to="transformers"), v1.state)
    v2 = peers.microsoft(V2).state
    older = {name.replace("cpb_mlp", "rpe_mlp"): tensor for name, tensor in v2.items()}
    assert older.keys() != v2.keys()
    assert same(swinv2.convert(older, to="swinv2"), swinv2.convert(v2, to="swinv2"))


@pytest.mark.parametrize(
    ("kind", "name", "other"),
    [
        ("transformers V1", "swin.encoder.layers.0.blocks.1.attention.self.query.bias",
         "swin.encoder.layers.0.blocks.1.attention.q_proj.bias"),
        ("microsoft V2", "layers.1.blocks.0.attn.cpb_mlp.2.weight", "layers.1.blocks.0.attn.rpe_mlp.2.weight"),
    ],
)  # fmt: skip
def test_two_spellings_of_one_tensor_are_refused(kind, name, other, built):
    peer = built[kind]
    with pytest.raises(ValueError, match=other):
        swinv2.convert({**peer.state, other: peer.state[name] + 1}, to="swinv2", **peer.untold)


def test_older_buffers_are_dropped(built):
    peer, buffers = built["timm V1"], {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)}
    index = "layers.0.blocks.0.attn.relative_position_index"
    buffers[index] = built["microsoft V1"].state[index]
    assert same(swinv2.convert({**peer.state, **buffers}, to="timm"), dict(peer.state))


def test_extra_norms_are_found(built):
    for kind in ("microsoft V2 with extra norms", "mmpretrain V2 with extra norms"):
        assert swinv2.load(built[kind].state).config.extra_norm_interval == 2


@pytest.mark.parametrize("version", [1, 2])
def test_a_pre_training_paints_the_same_in_transformers(version, tmp_path):
    """Mask token and decoder are converted too, from Microsoft's layout and back."""
    mim = peers.simmim(Spec(version=version))
    build = transformers.SwinForMaskedImageModeling if version == 1 else transformers.Swinv2ForMaskedImageModeling
    swinv2.convert(mim.state, to="transformers", path=tmp_path / "folder")
    with peers.quiet(), torch.inference_mode():
        theirs = build.from_pretrained(tmp_path / "folder").eval()
        mask = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.5
        want = mim.model(images(), mask)
        got = theirs(images(), bool_masked_pos=mask.flatten(1)).reconstruction
        assert relative_error(got, want) < 2e-6
        assert relative_error(mim.model(images(), ~mask), want) > 0.1
    back = swinv2.convert(tmp_path / "folder", to="microsoft")
    assert same(parameters(back), parameters(mim.state))


# Refusals


def sentence(state, **overrides):
    """What refuses a state dict, which has to be one sentence."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        swinv2.convert(state, to="swinv2", **overrides)
    assert str(refused.value).endswith(".")
    return str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_key_is_named(kind, built):
    """Whichever it is; of the kinds that repeat the names of another, some."""
    peer = built[kind]
    names = list(parameters(peer.state))
    if kind not in EACH_FORMAT:
        own = [name for name in names if re.search(r"mask_token|decoder|enorm|norm3", name)]
        names = random.Random(0).sample(names, 20) + own
    for name in names:
        without = {key: tensor for key, tensor in peer.state.items() if key != name}
        assert name in sentence(without, **peer.untold), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_too_many_is_named(kind, built):
    """Whether it is like one of the format's own or is one of another format's."""
    peer, choose = built[kind], random.Random(0)
    others = {name: tensor for other in built.values() for name, tensor in parameters(other.state).items()}
    foreign = choose.sample([name for name in others if name not in peer.state], 15)
    for name in [*choose.sample([f"{name}_2" for name in parameters(peer.state)], 15), *foreign]:
        refusal = sentence({**peer.state, name: others.get(name, torch.zeros(1))}, **peer.untold)
        block = name.partition(".blocks.")[0] + ".blocks." + name.partition(".blocks.")[2].partition(".")[0]
        assert name in refusal or block in refusal, name  # a new block lacks its other parts


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_of_another_shape_is_refused(kind, built):
    peer = built[kind]
    for name, tensor in random.Random(0).sample(list(parameters(peer.state).items()), 6):
        longer = torch.cat((tensor, tensor))
        assert sentence({**peer.state, name: longer}, **peer.untold), name


REFUSED = {
    "swinv2_nano, extra norms": ({"extra_norm_interval": 2}, ("timm", "transformers", "torchvision"), "extra norms"),
    "swinv2_video_nano": ({}, FOREIGN, "V2 models of 3 axes"),
    "swin_video_tiny": ({}, ("microsoft", "timm", "transformers", "mmpretrain"), "V1 models of 3 axes"),
    "swinv2_nano, sandwich": ({"norm_placement": "sandwich"}, FOREIGN, "sandwich"),
    "swinv2_nano, tables": ({"position_bias": "table"}, FOREIGN, "table"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_format_has_no_class_for_is_refused(name, randomise, tmp_path):
    overrides, formats, words = REFUSED[name]
    sizes = {"embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 4, 8), "num_classes": 3}
    model = randomise(swinv2.create_model(name.partition(",")[0], **sizes, **overrides))
    for to in formats:
        with pytest.raises(ValueError, match=rf"^[^.]*{words}[^.]*: use 'swinv2'\.$"):
            swinv2.save(model, tmp_path / "a.safetensors", to=to)
    assert not list(tmp_path.iterdir())
    swinv2.save(model, tmp_path / "a.safetensors")
    assert same(swinv2.load(tmp_path / "a.safetensors").state_dict(), model.state_dict())


@pytest.mark.parametrize("to", ["timm", "torchvision", "mmpretrain"])
def test_a_pre_training_is_refused_where_it_has_no_place(to, built):
    with pytest.raises(ValueError, match=f"^The {to} format has no V2 models .*pre-training: use 'swinv2'.$"):
        swinv2.convert(built["SimMIM V2"].state, to=to)


def test_one_window_for_all_stages_in_torchvision(built):
    """Its classes have one, and pad a map that is smaller."""
    peer = built["timm V2"]
    with pytest.raises(ValueError, match="one window for all stages"):
        swinv2.convert(peer.state, to="torchvision", **{**peer.untold, "window_size": ((4, 4), (2, 2))})


def test_unknown_formats_are_refused(built):
    with pytest.raises(ValueError, match=r"no format 'tim' \(the nearest is 'timm'\): use one of swinv2, microsoft"):
        swinv2.convert(built["timm V1"].state, to="tim")

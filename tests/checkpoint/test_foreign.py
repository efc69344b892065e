"""The mapping, against the peers' own classes with every weight randomised, and its inverse."""

import pytest
import torch

import swinv2
from swinv2.checkpoint.foreign import TIMM, TORCHVISION, TORCHVISION_VIDEO, to_foreign, to_native


def torchvision_model(name):
    models = pytest.importorskip("torchvision").models
    return models.video.swin3d_t() if "3d" in name else models.get_model(name)


def timm_model(name):
    return pytest.importorskip("timm").create_model(name)


# Sizes at which no stage pads and, in 3D, no height or width is below the window: elsewhere the peers are wrong
# (traps 2, 13).
PARITY = {
    "torchvision swin_t": (torchvision_model, "swin_t", TORCHVISION, "swin_tiny", {}, (224, 224)),
    "torchvision swin_v2_t": (torchvision_model, "swin_v2_t", TORCHVISION, "swinv2_tiny", {}, (256, 256)),
    "torchvision swin_v2_t 512x256": (torchvision_model, "swin_v2_t", TORCHVISION, "swinv2_tiny", {}, (512, 256)),
    "torchvision swin3d_t": (
        torchvision_model, "swin3d_t", TORCHVISION_VIDEO, "swin_video_tiny", {"num_classes": 400}, (16, 224, 224),
    ),
    "torchvision swin3d_t 4 frames": (
        torchvision_model, "swin3d_t", TORCHVISION_VIDEO, "swin_video_tiny", {"num_classes": 400}, (4, 224, 224),
    ),
    "timm swinv2_tiny_window8_256": (timm_model, "swinv2_tiny_window8_256", TIMM, "swinv2_tiny", {}, (256, 256)),
    "timm swinv2_tiny_window16_256": (
        timm_model, "swinv2_tiny_window16_256", TIMM, "swinv2_tiny", {"window_size": 16}, (256, 256),
    ),
    "timm swin_tiny_patch4_window7_224": (
        timm_model, "swin_tiny_patch4_window7_224", TIMM, "swin_tiny", {}, (224, 224),
    ),
}  # fmt: skip


@pytest.fixture
def zero_key_bias():
    """torchvision's V2 zeroes the key third of its bias at every forward; do the same to the weights."""

    def zero(model):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("qkv.bias"):
                    parameter.chunk(3)[1].zero_()

    return zero


@pytest.mark.parametrize("case", PARITY)
def test_same_logits_as_the_peer(case, randomise, zero_key_bias):
    build, peer_name, layout, name, overrides, size = PARITY[case]
    peer = randomise(build(peer_name)).eval()
    if "v2" in peer_name:
        zero_key_bias(peer)
    ours = swinv2.create_model(name, **overrides).eval()
    ours.load_state_dict(to_native(peer.state_dict(), layout, ours.config))
    x = torch.randn(2 if len(size) == 2 else 1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want, got = peer(x), ours(x)
    assert want.std() > 0.5, "a degenerate model would agree with anything"
    error = (got - want).abs().max() / want.abs().max()
    assert error <= 1e-5, f"{error:.1e}"


@pytest.mark.parametrize("case", ["torchvision swin_v2_t", "timm swin_tiny_patch4_window7_224"])
def test_same_gradients_as_the_peer(case, randomise, zero_key_bias):
    build, peer_name, layout, name, overrides, _ = PARITY[case]
    peer = randomise(build(peer_name)).eval().double()
    zero_key_bias(peer) if "v2" in peer_name else None
    ours = swinv2.create_model(name, **overrides).eval().double()
    ours.load_state_dict(to_native(peer.state_dict(), layout, ours.config))
    x = torch.randn(1, 3, *PARITY[case][-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for model in (peer, ours):
        model(x).square().sum().backward()
    peer_grads = {f"{name}": p.grad for name, p in peer.named_parameters()}
    want = to_native(peer_grads, layout, ours.config)
    for name, parameter in ours.named_parameters():
        error = (parameter.grad - want[name]).norm() / want[name].norm()
        assert error <= 1e-9, f"{name}: {error:.1e}"


@pytest.mark.parametrize(
    ("layout", "name"),
    [(TIMM, "swinv2_nano"), (TIMM, "swin_tiny"), (TORCHVISION, "swinv2_nano"), (TORCHVISION_VIDEO, "swin_video_tiny")],
)
def test_round_trip_is_exact(layout, name, randomise):
    model = randomise(swinv2.create_model(name, num_classes=3))
    state = model.state_dict()
    back = to_native(to_foreign(state, layout, model.config), layout, model.config)
    assert state.keys() == back.keys()
    assert all(torch.equal(state[key], back[key]) for key in state)


def test_parameters_without_a_foreign_name_are_refused():
    extra = swinv2.create_model("swinv2_nano", extra_norm_interval=2)
    with pytest.raises(ValueError, match=r"no name for stages\.0\.blocks\.1\.extra_norm\.bias"):
        to_foreign(extra.state_dict(), TIMM, extra.config)
    sandwich = swinv2.create_model("swinv2_nano", norm_placement="sandwich")
    with pytest.raises(ValueError, match="No other library has norm_placement 'sandwich'"):
        to_foreign(sandwich.state_dict(), TIMM, sandwich.config)


def test_every_key_is_used_or_named():
    model = swinv2.create_model("swinv2_nano", num_classes=3)
    foreign = to_foreign(model.state_dict(), TIMM, model.config)
    extra = {**foreign, "layers.0.blocks.0.attn.relative_position_index": torch.zeros(1)}
    assert to_native(extra, TIMM, model.config).keys() == model.state_dict().keys()
    with pytest.raises(ValueError, match="hold absolute_pos_embed, which this configuration does not have"):
        to_native({**foreign, "absolute_pos_embed": torch.zeros(1)}, TIMM, model.config)
    del foreign["head.fc.bias"]
    with pytest.raises(ValueError, match=r"lack head\.fc\.bias, which this configuration needs"):
        to_native(foreign, TIMM, model.config)

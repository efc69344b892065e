"""SimMIM's own weights in every format that has them, and what else a pre-training may start from."""

import importlib
import sys
import warnings
from pathlib import Path

import pytest
import torch

import swinv2
from swinv2.checkpoint.pretraining import load_simmim
from swinv2.model import SimMIM
from swinv2.storage import read

for library in ("timm", "transformers", "torchvision"):
    pytest.importorskip(library)
sys.path.insert(0, str(Path(__file__).parent))
peers = importlib.import_module("peers")

pytestmark = pytest.mark.usefixtures("one_thread")
EXTRA = ("mask_token", "decoder.weight", "decoder.bias")


def images(*size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def mask(*units):
    return torch.rand(2, *units, generator=torch.Generator().manual_seed(2)) < 0.5


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def mim(small, randomise):
    """A small V2 with everything random."""

    def make(**overrides):
        model = SimMIM(small(num_classes=0, **overrides).config)
        return randomise(model).eval()

    return make


@pytest.mark.parametrize("version", [1, 2])
def test_a_released_checkpoint_paints_as_its_definition(version):
    peer = peers.simmim(peers.Spec(version=version))
    model, hidden = load_simmim(peer.state), mask(8, 8)
    with torch.inference_mode():
        want, got = peer.model(images(32, 32), hidden), model(images(32, 32), hidden)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


def test_a_file_alone_rebuilds_the_model(mim, tmp_path):
    model = mim()
    swinv2.save(model, tmp_path / "mim.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_simmim(tmp_path / "mim.safetensors")
    assert again.config == model.config
    assert same(again.state_dict(), model.state_dict())
    assert not again.training


@pytest.mark.parametrize("to", ["microsoft", "transformers"])
def test_other_formats_and_back(mim, tmp_path, to):
    model = mim()
    swinv2.save(model, tmp_path / "own.safetensors")
    swinv2.save(model, tmp_path / "other.safetensors", to=to)
    assert same(dict(load_simmim(tmp_path / "other.safetensors").state_dict()), model.state_dict())
    back = swinv2.convert(tmp_path / "other.safetensors", to="swinv2")
    assert same(back, dict(read(tmp_path / "own.safetensors").tensors))


def test_a_format_without_a_place_for_the_decoder_refuses(mim, tmp_path):
    with pytest.raises(ValueError, match="timm format has no V2 models of 2 axes with the mask token and decoder"):
        swinv2.save(mim(), tmp_path / "x.safetensors", to="timm")


@pytest.mark.filterwarnings("ignore:the mask token and decoder of the pre-training")
def test_a_classifier_and_a_clip_model_start_from_the_encoder(mim, tmp_path):
    model = mim(window_size=12, image_size=96)
    swinv2.save(model, tmp_path / "mim.safetensors")
    encoder = swinv2.load(tmp_path / "mim.safetensors", window_size=14)
    assert encoder.config.window_size[0] == (14, 14)
    assert encoder.config.trained_window_size == model.config.trained_window_size
    clips = swinv2.load(
        tmp_path / "mim.safetensors", patch_size=(2, 4, 4), window_size=((2, 12, 12), (2, 12, 12)), merge_size=(1, 2, 2)
    )
    own = model.state_dict()
    assert all(torch.equal(encoder.state_dict()[name], own[name]) for name in own if name not in EXTRA)
    assert clips(torch.randn(1, 3, 2, 32, 32)).shape == (1, 32)


def test_any_encoder_gets_a_fresh_mask_token_and_decoder(small):
    classifier = small()
    with pytest.warns(UserWarning, match=r"mask_token, decoder.weight, decoder.bias of the pre-training are not in"):
        model = load_simmim(classifier.state_dict(), window_size=4, trained_window_size=4)
    own = classifier.state_dict()
    assert all(torch.equal(x, own[name]) for name, x in model.state_dict().items() if name not in EXTRA)
    assert model.config.num_classes == 0
    assert 0.005 < model.mask_token.std() < 0.05
    assert model(images(16, 16), mask(2, 2)).shape == (2, 3, 16, 16)


def test_another_number_of_channels_starts_the_decoder_anew(mim, tmp_path):
    swinv2.save(mim(), tmp_path / "mim.safetensors")
    with pytest.warns(UserWarning, match=r"^decoder.weight, decoder.bias of the pre-training"):
        gray = load_simmim(tmp_path / "mim.safetensors", in_channels=1)
    assert gray(images(16, 16)[:, :1], mask(2, 2)).shape == (2, 1, 16, 16)


def test_half_precision_is_kept_on_request(mim, tmp_path):
    model = mim().to(torch.bfloat16)
    swinv2.save(model, tmp_path / "mim.safetensors")
    assert load_simmim(tmp_path / "mim.safetensors").mask_token.dtype == torch.float32
    assert same(load_simmim(tmp_path / "mim.safetensors", dtype="keep").state_dict(), model.state_dict())

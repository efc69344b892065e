"""Models by name, fresh and pre-trained; the weights lie in a cache as huggingface_hub lays it out."""

import json
import os
import subprocess
import sys

import pytest
import torch

import swinv2
from swinv2.checkpoint.published import get
from swinv2.config import VARIANTS
from swinv2.model.features import SwinBackbone

NAME = "swinv2_tiny_window16_256.ms_in1k"


def test_plain_names_are_architectures():
    model = swinv2.create_model("swinv2_nano", num_classes=3, window_size=4, image_size=64)
    assert model.config.trained_window_size == ((4, 4), (4, 4), (4, 4), (2, 2))
    assert model.training
    maps = swinv2.create_model("swinv2_nano", features_only=True, out_indices=(1, 3))
    assert isinstance(maps, SwinBackbone)
    assert maps.out_indices == (1, 3)
    with torch.device("meta"):
        assert swinv2.create_model("swin_tiny").config == VARIANTS["swin_tiny"]


def test_a_records_name_is_its_architecture():
    record = get("swinv2_base_window12to24_192to384.ms_in22k_ft_in1k")
    with torch.device("meta"):
        model = swinv2.create_model(record.name)
        changed = swinv2.create_model(record.name, num_classes=7, window_size=16, drop_path_rate=0.2)
        retrained = swinv2.create_model(record.name, image_size=384)
        same = swinv2.create_model("microsoft/swinv2-base-patch4-window12to24-192to384-22kto1k-ft")
    assert model.config == same.config == record.config()
    assert model.training
    assert (changed.config.num_classes, changed.config.drop_path_rate) == (7, 0.2)
    assert changed.config.window_size == ((16, 16),) * 4
    assert changed.config.trained_window_size == record.trained_window_size
    assert retrained.config.trained_window_size == ((24, 24), (24, 24), (24, 24), (12, 12))


def test_a_records_name_gives_maps_too():
    with torch.device("meta"):
        maps = swinv2.create_model(NAME, features_only=True, out_indices=(-1,), frozen_stages=1)
    assert isinstance(maps, SwinBackbone)
    assert (maps.channels, maps.frozen_stages) == ((768,), 1)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("swinv2_tini", {}, "nearest is 'swinv2_tiny'"),
        ("swinv2_tiny_window8_256.ms_in2k", {"pretrained": True}, "nearest is 'swinv2_tiny_window8_256.ms_in1k'"),
        ("swinv2_tiny", {"pretrained": True}, "several published weights of swinv2_tiny.*window8.*window16"),
        ("swinv2_giant", {"pretrained": True}, "no published weights of swinv2_giant"),
        (NAME, {"pretrained": True, "image_size": 512}, "image_size is 512"),
        (NAME, {"out_indices": (1,)}, "features_only=True"),
        (NAME, {"wimdow": 3}, "no field 'wimdow'"),
    ],
)
def test_what_cannot_be_is_refused(name, options, said):
    with torch.device("meta"), pytest.raises(ValueError, match=said):
        swinv2.create_model(name, **options)


def lay_out(cache, repository, write):
    """A repository in a cache of the hub, its files by ``write(folder)``."""
    commit = "a" * 40
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    write(folder / "snapshots" / commit)


@pytest.fixture(scope="module")
def cached(tmp_path_factory, randomise):
    """A cache with a model of timm, as timm itself writes it, and the model."""
    timm = pytest.importorskip("timm")
    from timm.models._hub import save_for_hf

    model = randomise(timm.create_model(NAME)).eval()
    cache = tmp_path_factory.mktemp("hub")
    lay_out(cache, f"timm/{NAME}", lambda folder: save_for_hf(model, folder, safe_serialization=True))
    return cache, model


@pytest.fixture
def offline(cached, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cached[0]))
    return cached


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("name", [NAME, f"hf-hub:timm/{NAME}"])
def test_published_weights_give_the_publishers_logits(offline, image, one_thread, name):
    model = swinv2.create_model(name, pretrained=True)
    assert not model.training
    assert model.config == get(NAME).config()
    assert model.info.preprocessing == get(NAME).preprocessing
    assert model.info.extra["licence"] == "mit"
    with torch.no_grad():
        assert relative_error(model(image), offline[1](image)) < 1e-5


def test_published_weights_take_overrides(offline):
    with pytest.warns(UserWarning, match="head of 5 classes"):
        model = swinv2.create_model(NAME, pretrained=True, num_classes=5, window_size=24)
    assert model.head.out_features == 5
    assert model.config.window_size == ((24, 24),) * 4
    assert model.config.trained_window_size == get(NAME).trained_window_size
    assert torch.equal(model.stages[2].blocks[0].mlp.body.fc1.weight, offline[1].layers[2].blocks[0].mlp.fc1.weight)


def test_published_weights_give_maps(offline, image, one_thread):
    maps = swinv2.create_model(NAME, pretrained=True, features_only=True, out_indices=(0, 2), frozen_stages=1)
    assert isinstance(maps, SwinBackbone)
    with torch.no_grad():
        first, third = maps(image)
        theirs = offline[1].forward_intermediates(image, intermediates_only=True)
    assert relative_error(first, theirs[0]) < 1e-5
    assert relative_error(third, theirs[2]) < 1e-5


def test_a_file_of_a_published_name_tells_its_trained_windows(offline, tmp_path):
    path = tmp_path / "swinv2_tiny_patch4_window16_256.pth"
    torch.save({"model": offline[1].state_dict()}, path)
    assert swinv2.load(path).config == get(NAME).config()
    path.rename(tmp_path / "mine.pth")
    with pytest.raises(ValueError, match="trained_window_size"):
        swinv2.load(tmp_path / "mine.pth")


@pytest.mark.slow
def test_a_repository_of_transformers(offline, image, one_thread, randomise):
    transformers = pytest.importorskip("transformers")
    config = transformers.Swinv2Config(image_size=256, window_size=16, num_labels=1000)
    theirs = randomise(transformers.Swinv2ForImageClassification(config)).eval()
    lay_out(offline[0], "microsoft/swinv2-tiny-patch4-window16-256", theirs.save_pretrained)
    ours = swinv2.create_model("microsoft/swinv2-tiny-patch4-window16-256", pretrained=True)
    assert ours.config == get(NAME).config()
    with torch.no_grad():
        assert relative_error(ours(image), theirs(image).logits) < 1e-5


@pytest.mark.slow
def test_weights_fine_tuned_at_a_larger_window(tmp_path, monkeypatch, one_thread, randomise):
    timm = pytest.importorskip("timm")
    from huggingface_hub import constants
    from timm.models._hub import save_for_hf

    name = "swinv2_base_window12to16_192to256.ms_in22k_ft_in1k"
    theirs = randomise(timm.create_model(name)).eval()
    lay_out(tmp_path, f"timm/{name}", lambda folder: save_for_hf(theirs, folder, safe_serialization=True))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    ours = swinv2.create_model(name, pretrained=True)
    assert ours.config.trained_window_size == ((12, 12), (12, 12), (12, 12), (6, 6))
    image = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        assert relative_error(ours(image), theirs(image)) < 1e-5


@pytest.mark.slow
def test_pre_trained_masked_models_come_without_a_head(tmp_path, monkeypatch):
    """SimMIM's file: a backbone called encoder, a mask token and a decoder."""
    from huggingface_hub import constants

    record = get("swinv2_small_window12_192.simmim_1k_500k")
    with torch.device("meta"):
        shapes = swinv2.create_model("swinv2_small", num_classes=0).state_dict()
    written = swinv2.convert(
        {name: torch.zeros(tensor.shape, dtype=torch.bfloat16) for name, tensor in shapes.items()},
        to="microsoft",
        window_size=record.window_size,
        trained_window_size=record.trained_window_size,
    )
    state = {f"encoder.{name}": tensor for name, tensor in written.items()}
    state |= {
        "encoder.mask_token": torch.zeros(1, 1, 96),
        "decoder.0.weight": torch.zeros(3072, 768, 1, 1),
        "decoder.0.bias": torch.zeros(3072),
    }

    def write(folder):
        (folder / "simmim_swinv2_pretrain_models").mkdir()
        torch.save({"model": state}, folder / "simmim_swinv2_pretrain_models" / "swinv2_small_1k_500k.pth")

    lay_out(tmp_path, "zdaxie/SimMIM", write)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.warns(UserWarning, match="mask token"):
        model = swinv2.create_model(record.name, pretrained=True)
    assert model.config == record.config()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 768)


def test_without_weights_and_network_the_command_line_says_one_line(tmp_path):
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "swinv2", "convert", NAME, str(tmp_path / "out.safetensors")],
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"https://huggingface.co/timm/{NAME}" in line
    assert "swinv2.load(FOLDER)" in line


def test_our_own_file_in_a_repository(tmp_path, monkeypatch, small):
    """A hub id that no record knows, holding what `save_pretrained` writes."""
    from huggingface_hub import constants

    model = small()

    def write(folder):
        swinv2.save(model, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(model.config.to_dict()))

    lay_out(tmp_path, "somebody/small", write)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    again = swinv2.create_model("somebody/small", pretrained=True)
    assert again.config == model.config
    x = torch.randn(2, 3, 40, 40)
    assert torch.equal(again(x), model(x))

"""What must never happen to a user's weights, and what odd files must lead to: one sentence."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import swinv2
from swinv2.model import SwinBackbone
from swinv2.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(size=(64, 64), mean=(0.1, 0.1, 0.1), std=(0.9, 0.9, 0.9))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_loaded_model_needs_its_file_no_more(small, tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    swinv2.save(small(), path, to="timm")
    model = swinv2.load(path, trained_window_size=4)
    x = torch.randn(1, 3, 64, 64)
    before = model(x)
    path.write_bytes(b"")  # the same file, as a copy over it leaves it
    assert torch.equal(model(x), before)


def test_a_state_dict_is_copied(small):
    source = small()
    copy = swinv2.load(source.state_dict(), trained_window_size=4)
    with torch.no_grad():
        copy.head.weight.zero_()
    assert source.head.weight.all()


def test_weights_may_be_converted_over_themselves(small, tmp_path):
    path, model = tmp_path / "w.safetensors", small()
    swinv2.save(model, path)
    swinv2.convert(path, to="timm", path=path, window_size=6)
    assert swinv2.load(path).config.window_size == ((6, 6),) * 2


def test_a_folder_is_read_as_transformers_does_and_not_mixed(small, tmp_path):
    model, folder = small(), tmp_path / "hf"
    swinv2.save(model, folder, to="transformers", preprocessing=PREPROCESSING)
    assert swinv2.load(folder).info.preprocessing == PREPROCESSING
    with pytest.raises(ValueError, match=r"holds preprocessor_config\.json of another model"):
        swinv2.save(model, folder, to="transformers")
    save_file({"a.b": torch.zeros(1)}, folder / "old.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a.b": "old.safetensors"}}))
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(swinv2.load(folder)(x), model(x))  # the whole file comes before an index
    with pytest.raises(ValueError, match=r"holds model\.safetensors\.index\.json of another model"):
        swinv2.save(model, folder, to="transformers", preprocessing=PREPROCESSING)


def test_a_told_window_comes_before_a_guess(small):
    model = small("swin_tiny", window_size=((5, 13),), image_size=208)
    state = swinv2.convert(model.state_dict(), to="timm")  # 225 rows, as window 8 has
    assert swinv2.load(state, trained_window_size=((5, 13),)).config.window_size == ((5, 13),) * 2
    with pytest.raises(ValueError, match=r"table of shape \(225, 1\) is not one of window \(4, 4\)"):
        swinv2.load(state, trained_window_size=4)


def test_a_told_resolution_comes_before_the_configurations(small, tmp_path):
    swinv2.save(small(), tmp_path / "hf", to="transformers")
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pretrained_window_sizes": [0, 0]}))
    weights = tmp_path / "hf" / "model.safetensors"
    state = swinv2.convert(tmp_path / "hf", to="transformers")
    save_file(state, weights, {"format": "pt"})
    assert swinv2.load(tmp_path / "hf").config.trained_window_size == ((4, 4), (4, 4))
    assert swinv2.load(tmp_path / "hf", image_size=16).config.trained_window_size == ((4, 4), (2, 2))


def test_processors_that_do_more_than_a_resize_are_unknown(small, tmp_path):
    swinv2.save(small(), tmp_path / "hf", to="transformers", preprocessing=PREPROCESSING)
    path = tmp_path / "hf" / "preprocessor_config.json"
    weights = tmp_path / "hf" / "model.safetensors"
    save_file(swinv2.convert(tmp_path / "hf", to="transformers"), weights, {"format": "pt"})
    known = json.loads(path.read_text())
    assert swinv2.load(tmp_path / "hf").info.preprocessing == PREPROCESSING
    for change in ({"do_normalize": False}, {"do_center_crop": True}, {"resample": 5}, {"size": {"shortest_edge": 9}}):
        path.write_text(json.dumps(known | change))
        assert swinv2.load(tmp_path / "hf").info.preprocessing is None


def test_what_cannot_be_read_back_is_not_written(small, tmp_path):
    model = small()
    model.head = nn.Linear(32, 7)
    with pytest.raises(ValueError, match=r"another shape for head\.bias, head\.weight"):
        swinv2.save(model, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="save takes a SwinTransformer, not a SwinBackbone"):
        swinv2.save(SwinBackbone(small()), tmp_path / "w.safetensors")
    v1 = small("swin_tiny", window_size=((4, 4), (2, 2)), image_size=16)
    with pytest.raises(ValueError, match="transformers has one table size"):
        swinv2.save(v1, tmp_path / "hf", to="transformers")
    assert not list(tmp_path.iterdir())


def test_a_trained_window_that_a_format_loses_is_warned_of(small, tmp_path):
    model = small(window_size=6, trained_window_size=4)
    with pytest.warns(UserWarning, match="does not say that the weights were trained at window"):
        swinv2.save(model, tmp_path / "w.pth", to="timm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        swinv2.save(model, tmp_path / "w.safetensors", to="timm")
        swinv2.save(model, tmp_path / "m.pth", to="microsoft")


def test_a_key_bias_that_is_not_zero_is_no_buffer(small):
    state = swinv2.convert(small().state_dict(), to="timm", trained_window_size=4)
    name = "layers.0.blocks.0.attn.k_bias"
    swinv2.load({**state, name: torch.zeros(16)}, trained_window_size=4)
    with pytest.raises(ValueError, match=f"hold {name}"):
        swinv2.load({**state, name: torch.ones(16)}, trained_window_size=4)


def test_a_name_alone_gives_no_licence(small, tmp_path):
    model = swinv2.create_model("swinv2_tiny", num_classes=2)
    path = tmp_path / "swinv2_tiny_patch4_window8_256.pth"
    swinv2.save(model, path, to="timm")
    loaded = swinv2.load(path)
    assert loaded.config.trained_window_size == ((8, 8),) * 4
    assert not loaded.info.extra


def test_files_cut_anywhere_are_one_sentence(small, tmp_path):
    swinv2.save(small(), tmp_path / "w.pth", to="timm")
    whole = (tmp_path / "w.pth").read_bytes()
    for length in range(0, len(whole), len(whole) // 25):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="no checkpoint, or damaged"):
            swinv2.load(tmp_path / "cut.pth", trained_window_size=4)


def test_what_a_trainer_keeps_beside_the_weights_is_no_set_of_weights(small, tmp_path):
    state = {f"model.{name}": tensor for name, tensor in small().state_dict().items()}
    callbacks = {"ModelCheckpoint{}": {"best_k_models": {"/runs/epoch=1.ckpt": torch.tensor(0.5)}}}
    torch.save({"state_dict": state, "callbacks": callbacks, "optimizer_states": []}, tmp_path / "w.ckpt")
    assert swinv2.load(tmp_path / "w.ckpt", trained_window_size=4).config.num_classes == 3


HOSTILE = {
    "config.json": [
        *({"image_size": value} for value in (None, 1.5, "x")),
        *({"window_size": value} for value in (None, 4.5, "4")),
        {"pretrained_window_sizes": 5},
        {"id2label": {"a": "b"}},
        {"layer_norm_eps": 1e-3},
        {"architecture": "x", "pretrained_cfg": "abc"},
        {"architecture": "x", "pretrained_cfg": {"mean": None, "input_size": [3, 8, 8]}},
        {"architecture": "x", "pretrained_cfg": {"crop_pct": None}},
        {"architecture": "x", "model_args": [1]},
    ],
    "preprocessor_config.json": [{"image_mean": 5}, {"resample": [1]}, {"size": None}],
    "model.safetensors.index.json": [
        {},
        {"weight_map": ["a"]},
        {"weight_map": {"a": 5}},
        {"weight_map": {"a": "missing.safetensors"}},
        {"weight_map": {"a": "../outside.safetensors"}},
        {"weight_map": {"a": "/etc/passwd"}},
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_plain_data_is_one_sentence(small, tmp_path, name):
    folder = tmp_path / "hf"
    swinv2.save(small(), folder, to="transformers", preprocessing=PREPROCESSING)
    state = swinv2.convert(folder, to="transformers")
    save_file(state, tmp_path / "outside.safetensors")
    if name.startswith("model"):
        (folder / "model.safetensors").unlink()
    else:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    path = folder / name
    good = json.loads(path.read_text()) if path.exists() else {}
    for change in HOSTILE[name]:
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=r"config\.json|index\.json") as error:
            swinv2.load(folder)
        assert "\n" not in str(error.value), change


@pytest.mark.parametrize(
    "config",
    [
        {"mlp_ratio": "x"},
        {"mlp_ratio": float("inf")},
        {"mlp_ratio": float("nan")},
        {"drop_path_rate": None},
        {"embed_dim": True},
        {"depths": [10**9, 1]},
    ],
)
def test_hostile_configurations_are_one_sentence(small, tmp_path, config):
    from safetensors import safe_open

    path = tmp_path / "w.safetensors"
    swinv2.save(small(), path)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        said = file.metadata()
    said["config"] = json.dumps(json.loads(said["config"]) | config)
    save_file(tensors, path, said)
    with pytest.raises(ValueError, match=f"{next(iter(config))}|another model"):
        swinv2.load(path)


def test_arguments_of_the_wrong_kind(small):
    state = small().state_dict()
    with pytest.raises(ValueError, match="dtype is 'bf16', but must be a"):
        swinv2.load(state, trained_window_size=4, dtype="bf16")
    assert swinv2.load(state, trained_window_size=4, patch_size=4).config.patch_size == (4, 4)
    with pytest.raises(ValueError, match=r"patch_size \(4, 4\), not \(2, 2\)"):
        swinv2.load(state, trained_window_size=4, patch_size=2)


def test_a_fresh_head_has_the_weights_dtype(small):
    half = small().bfloat16().state_dict()
    with pytest.warns(UserWarning, match="starts anew"):
        model = swinv2.load(half, trained_window_size=4, dtype="keep", num_classes=5)
    assert model(torch.randn(1, 3, 32, 32, dtype=torch.bfloat16)).shape == (1, 5)


def test_trained_windows_of_each_stage_become_a_clips(small):
    state = small().state_dict()
    clip = swinv2.load(
        state, trained_window_size=((4, 4), (2, 2)), patch_size=(2, 4, 4), window_size=((2, 4, 4),)
    ).config
    assert clip.trained_window_size == ((2, 4, 4), (2, 2, 2))


def test_a_backbone_of_a_frozen_model_stays_frozen(small):
    model = small()
    model.freeze_stages(1)
    SwinBackbone(model)
    assert not model.stages[0].blocks[0].mlp.body.fc1.weight.requires_grad


def test_the_file_of_a_path_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="There is no weights file"):
        swinv2.load(tmp_path / "nothing.safetensors")

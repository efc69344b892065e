import argparse
import json
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

import swinv2
from swinv2.checkpoint.reading import read


@pytest.fixture
def state(small):
    """A state dict in the timm format."""
    return swinv2.convert(small().state_dict(), to="timm", trained_window_size=4)


def same(model, reference):
    x = torch.randn(1, 3, 64, 64)
    return torch.equal(model(x), reference(x))


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_and_prefixes(small, state, tmp_path, wrapper, prefix):
    named = {prefix + name: tensor for name, tensor in state.items()}
    torch.save(named if wrapper is None else {wrapper: named, "epoch": 3, "lr": 0.1}, tmp_path / "w.pth")
    assert same(swinv2.load(tmp_path / "w.pth", trained_window_size=4), small())


def test_older_pickles_without_a_zip(small, state, tmp_path):
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert same(swinv2.load(str(tmp_path / "w.pth"), trained_window_size=4), small())


def test_lightning_files(small, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Task(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            return self.model(batch[0]).sum()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.0)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(1, 3, 32, 32)))
    trainer = lightning.Trainer(
        max_steps=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, accelerator="cpu", default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Task(small()), data)
    trainer.save_checkpoint(tmp_path / "w.ckpt")
    assert same(swinv2.load(tmp_path / "w.ckpt", trained_window_size=4), small())


def test_several_sets_of_weights_are_ambiguous(small, state, tmp_path):
    other = swinv2.convert(small(num_classes=5).state_dict(), to="timm", trained_window_size=4)
    torch.save({"state_dict": state, "state_dict_ema": other}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="several sets of weights: choose one of state_dict, state_dict_ema"):
        swinv2.load(tmp_path / "w.pth", trained_window_size=4)
    ema = swinv2.load(tmp_path / "w.pth", trained_window_size=4, key="state_dict_ema")
    assert ema.config.num_classes == 5
    with pytest.raises(ValueError, match="no weights under 'teacher'"):
        swinv2.load(tmp_path / "w.pth", key="teacher")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="holds one set of weights only"):
        swinv2.load(tmp_path / "w.safetensors", key="state_dict_ema")


class CfgNode(dict):
    """As yacs has it: a dict with attributes."""

    def __init__(self, **settings):
        super().__init__(settings)
        self.__dict__["__immutable__"] = True


def test_microsofts_configuration_tells_the_windows(small, tmp_path, monkeypatch):
    model = small(window_size=6, trained_window_size=4)
    state = swinv2.convert(model.state_dict(), to="microsoft", trained_window_size=4)
    bare = {name: tensor for name, tensor in state.items() if "relative" not in name}
    swin = CfgNode(WINDOW_SIZE=6, PRETRAINED_WINDOW_SIZES=[4, 4])
    config = CfgNode(MODEL=CfgNode(TYPE="swinv2", SWINV2=swin), DATA=CfgNode(IMG_SIZE=96))
    module = type(json)("yacs.config")
    module.CfgNode = CfgNode
    monkeypatch.setitem(__import__("sys").modules, "yacs", type(json)("yacs"))
    monkeypatch.setitem(__import__("sys").modules, "yacs.config", module)
    monkeypatch.setattr(CfgNode, "__module__", "yacs.config")
    torch.save({"model": bare, "config": config, "epoch": 1}, tmp_path / "w.pth")
    assert swinv2.load(tmp_path / "w.pth").config == model.config
    torch.save({"model": bare, "config": argparse.Namespace(cfg="a.yaml")}, tmp_path / "n.pth")
    assert swinv2.load(tmp_path / "n.pth", trained_window_size=4, window_size=6).config == model.config


def test_buffers_come_before_the_configuration(small, tmp_path):
    state = swinv2.convert(small().state_dict(), to="microsoft", trained_window_size=4, window_size=6)
    torch.save({"model": state}, tmp_path / "w.pth")
    config = swinv2.load(tmp_path / "w.pth").config
    assert (config.window_size, config.trained_window_size) == (((6, 6),) * 2, ((4, 4),) * 2)
    override = swinv2.load(tmp_path / "w.pth", trained_window_size=5).config
    assert override.trained_window_size == ((5, 5),) * 2


@pytest.mark.parametrize("to", ["timm", "microsoft", "torchvision", "transformers", "mmpretrain"])
def test_our_safetensors_of_other_formats_keep_the_trained_windows(small, tmp_path, to):
    model = small(window_size=6, trained_window_size=4)
    swinv2.save(model, tmp_path / "w.safetensors", to=to, classes=("cat", "dog", "owl"))
    back = swinv2.load(tmp_path / "w.safetensors")
    assert back.config == model.config
    assert back.info.classes == ("cat", "dog", "owl")
    assert back.info.source == to
    assert same(back, model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(state, tmp_path, dtype):
    half = {name: tensor.to(dtype) for name, tensor in state.items()}
    save_file(half, tmp_path / "w.safetensors")
    assert {p.dtype for p in swinv2.load(tmp_path / "w.safetensors", trained_window_size=4).parameters()} == {
        torch.float32
    }
    kept = swinv2.load(tmp_path / "w.safetensors", trained_window_size=4, dtype="keep")
    assert {p.dtype for p in kept.parameters()} == {dtype}
    back = swinv2.convert(tmp_path / "w.safetensors", to="timm", trained_window_size=4)
    assert all(torch.equal(back[name], half[name]) for name in half)


def test_a_missing_window_is_asked_for(state):
    with pytest.raises(ValueError, match="pass trained_window_size, or window_size and the training image_size") as e:
        swinv2.load(state)
    assert "\n" not in str(e.value)
    with pytest.raises(ValueError, match="pass trained_window_size"):
        swinv2.load(state, window_size=6)  # it need not be the trained one
    config = swinv2.load(state, window_size=16, image_size=64).config
    assert config.trained_window_size == ((16, 16), (8, 8))
    assert config.window_size == ((16, 16),) * 2


class Evil:
    """A pickle that would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickles_run_nothing(state, tmp_path, zipped):
    marker = tmp_path / "ran"
    torch.save({"model": state, "x": Evil(marker)}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"Python objects .* that could run code") as error:
        swinv2.load(tmp_path / "w.pth", trained_window_size=4)
    assert not marker.exists()
    assert "\n" not in str(error.value)


def damaged(path, state):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-5000])


def zipped(path, state):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "no weights")


BAD_FILES = {
    "truncated": (damaged, "no checkpoint, or damaged"),
    "empty": (lambda path, state: path.write_bytes(b""), "no checkpoint, or damaged"),
    "text": (lambda path, state: path.write_text("hello, world\n" * 9), "no checkpoint, or damaged"),
    "image": (lambda path, state: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(999)), "no checkpoint, or damaged"),
    "zip": (zipped, "no checkpoint, or damaged"),
    "plain pickle": (lambda path, state: path.write_bytes(pickle.dumps({"a": 1})), "holds no weights|no checkpoint"),
    "a tensor": (lambda path, state: torch.save(torch.zeros(3), path), "holds Tensor, not a state dict"),
    "no tensors": (lambda path, state: torch.save({"epoch": 3}, path), "holds no weights: its keys are epoch"),
    "another model": (
        lambda path, state: torch.save({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, path),
        "no weights of a Swin in a known format .* such as conv1.weight, fc.bias",
    ),
    "cr": (
        lambda path, state: torch.save({"stages.0.blocks.0.attn.meta_mlp.fc1.weight": torch.zeros(1)}, path),
        "swinv2_cr: another parameterisation",
    ),
    "position embedding": (
        lambda path, state: torch.save({**state, "absolute_pos_embed": torch.zeros(1)}, path),
        "absolute position embeddings",
    ),
    "mixture": (
        lambda path, state: torch.save({**state, "layers.0.downsample.reduction.weight": torch.zeros(1)}, path),
        "look like those of the timm format, but hold layers.0.downsample.reduction.weight",
    ),
    "lacking": (
        lambda path, state: torch.save({k: v for k, v in state.items() if k != "norm.bias"}, path),
        "look like those of the timm format, but lack norm.bias",
    ),
    "a number for a row": (
        lambda path, state: torch.save({**state, "head.fc.weight": torch.tensor(1.0)}, path),
        "another shape for head.weight",
    ),
    "whole numbers": (
        lambda path, state: torch.save({**state, "norm.bias": state["norm.bias"].long()}, path),
        "not floating point in norm.bias",
    ),
    "narrower": (
        lambda path, state: torch.save({**state, "norm.bias": torch.zeros(7)}, path),
        "another shape for norm.bias",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_in_one_sentence(state, tmp_path, case):
    damage, sentence = BAD_FILES[case]
    damage(tmp_path / "w.pth", state)
    with pytest.raises(ValueError, match=sentence) as error:
        swinv2.load(tmp_path / "w.pth", trained_window_size=4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["no.pth", "/no/such/file", "./here", "no-such-model"])
def test_missing_files(name):
    with pytest.raises(ValueError, match="There is no weights file"):
        swinv2.load(name)


def test_folders(small, tmp_path):
    with pytest.raises(ValueError, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        swinv2.load(tmp_path)
    model = small(window_size=4, image_size=64)
    swinv2.save(model, tmp_path / "hf", to="transformers", classes=("cat", "dog", "owl"))
    assert {path.name for path in (tmp_path / "hf").iterdir()} == {"config.json", "model.safetensors"}
    back = swinv2.load(tmp_path / "hf")
    assert (back.config, back.info.classes) == (model.config, ("cat", "dog", "owl"))
    shards = read(tmp_path / "hf").state
    names = sorted(shards)
    half = len(names) // 2
    folder = tmp_path / "sharded"
    folder.mkdir()
    weight_map = {}
    for number, part in enumerate((names[:half], names[half:])):
        save_file({name: shards[name] for name in part}, folder / f"{number}.safetensors", {"format": "pt"})
        weight_map |= dict.fromkeys(part, f"{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_bytes((tmp_path / "hf" / "config.json").read_bytes())
    assert same(swinv2.load(folder), model)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json' is no JSON"):
        swinv2.load(folder)


@pytest.mark.parametrize("setting", [{"use_absolute_embeddings": True}, {"hidden_dropout_prob": 0.1}])
def test_foreign_configurations_of_what_we_lack_are_refused(small, tmp_path, setting):
    swinv2.save(small(), tmp_path / "hf", to="transformers")
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | setting))
    with pytest.raises(ValueError, match=f"config.json sets {next(iter(setting))}"):
        swinv2.load(tmp_path / "hf")

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import swinv2
from swinv2.checkpoint import load, save
from swinv2.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(size=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), crop_fraction=0.9)


@pytest.fixture
def model(randomise):
    return randomise(
        swinv2.create_model(
            "swinv2_nano",
            num_classes=2,
            window_size=((4, 6), (4, 6)),
            image_size=(64, 40),
            depths=(2, 2),
            num_heads=(1, 2),
        )
    ).eval()


def test_a_file_alone_rebuilds_the_model(model, tmp_path):
    save(model, tmp_path / "w.safetensors", classes=("cat", "dog"), preprocessing=PREPROCESSING, extra={"top1": "0.5"})
    loaded = load(tmp_path / "w.safetensors")
    assert loaded.config == model.config
    assert loaded.info.classes == ("cat", "dog")
    assert loaded.info.preprocessing == PREPROCESSING
    assert loaded.info.extra == {"top1": "0.5"}
    assert not loaded.training
    x = torch.randn(2, 3, 40, 40)
    assert torch.equal(loaded(x), model(x))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_trained_windows_survive_another_window(model, tmp_path):
    config = swinv2.SwinConfig(**{**model.config.to_dict(), "window_size": 12})
    other = swinv2.SwinTransformer(config)
    other.load_state_dict(model.state_dict())
    save(other, tmp_path / "w.safetensors")
    assert load(tmp_path / "w.safetensors").config.trained_window_size == model.config.trained_window_size


def test_dtype_is_kept(model, tmp_path):
    save(model.bfloat16(), tmp_path / "w.safetensors")
    assert {p.dtype for p in load(tmp_path / "w.safetensors", dtype="keep").parameters()} == {torch.bfloat16}


def test_compiled_models_save_the_same_names(model, tmp_path):
    names = set(model.state_dict())
    save(model, tmp_path / "w.safetensors")
    model.stages[0] = torch.compile(model.stages[0])
    save(model, tmp_path / "c.safetensors")
    assert set(load(tmp_path / "c.safetensors").state_dict()) == names


def test_a_failed_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save(model, path)
    before = path.read_bytes()

    def full(tensors, aside, metadata):
        aside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swinv2.storage.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(model, path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_class_names_must_fit_the_head(model, tmp_path):
    with pytest.raises(ValueError, match="3 class names were given for a head of 2 classes"):
        save(model, tmp_path / "w.safetensors", classes=("a", "b", "c"))


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _rewrite(path, drop=(), **metadata):
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys() if k not in drop}  # noqa: SIM118
        metadata = {**file.metadata(), **metadata}
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "There is no weights file"),
        (lambda path: path.write_bytes(b""), "not a whole safetensors file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 not weights"), "not a whole safetensors file"),
        (_truncate, "not a whole safetensors file"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "no weights of a Swin in a known format"),
        (lambda path: _rewrite(path, format_version="99"), "newer than this swinv2 reads"),
        (lambda path: _rewrite(path, config="null"), "None as 'config'"),
        (lambda path: _rewrite(path, config="{"), "no readable 'config'"),
        (lambda path: _rewrite(path, classes='["a"]'), "names 1 classes for a head of 2"),
        (lambda path: _rewrite(path, preprocessing='{"size": [8, 8]}'), "incomplete preprocessing"),
        (lambda path: _rewrite(path, drop=["norm.weight"]), r"weights of another model: it lacks norm\.weight"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(model, tmp_path, damage, sentence):
    path = tmp_path / "w.safetensors"
    save(model, path)
    damage(path)
    with pytest.raises(ValueError, match=sentence) as error:
        load(path)
    assert "\n" not in str(error.value)

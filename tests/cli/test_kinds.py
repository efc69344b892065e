"""The kind of model in a weights file decides what measures and uses it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from swinv2.checkpoint import reading, save
from swinv2.cli.kinds import MODULES
from swinv2.config import SwinConfig
from swinv2.model import SimMIM, SwinTransformer
from swinv2.tasks.models import MODELS, load_model

SMALL = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "patch_size": (2, 2), "window_size": 2}


@pytest.fixture
def regressor(toy: ModuleType, tmp_path: Path) -> Path:
    save(toy.Regressor(SwinConfig(**SMALL), width=4), tmp_path / "toy.safetensors")
    return tmp_path / "toy.safetensors"


def test_kinds_of_the_command_line_are_models() -> None:
    assert set(MODULES) <= set(MODELS)


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_each_kind_has_a_module_of_its_own(
    swinv2: Callable, regressor: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Which is given all arguments, wherever the weights stand among them."""
    taken = []
    monkeypatch.setitem(MODULES, "regressor", "toys_command_line")
    monkeypatch.setitem(sys.modules, "toys_command_line", SimpleNamespace(**{verb: taken.append}))
    arguments = ["--level", "3", f"--weights={regressor}", "photo.png"]
    assert swinv2(verb, *arguments).status == 0
    assert taken == [arguments]


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_kind_that_nothing_knows_is_one_sentence(swinv2: Callable, regressor: Path, verb: str) -> None:
    status, out, err = swinv2(verb, "--weights", regressor, "photo.png")
    assert (status, out) == (2, "")
    assert err == f"swinv2: error: {regressor} holds a regressor, which this swinv2 does not know: update swinv2.\n"


def test_a_pre_training_is_told_to_lack_a_head(swinv2: Callable, photo: Path, tmp_path: Path) -> None:
    save(SimMIM(SwinConfig(**SMALL)), tmp_path / "pre.safetensors")
    status, _, err = swinv2("predict", "--weights", tmp_path / "pre.safetensors", photo)
    assert status == 2
    assert "has no head: give it one with swinv2 train --weights" in err


@pytest.fixture
def photo(class_folders: Callable) -> Path:
    return class_folders(counts={"cat": 1}) / "cat" / "0.png"


def test_a_folder_of_the_hub_tells_its_kind_too(swinv2: Callable, regressor: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    regressor.rename(tmp_path / "folder" / "model.safetensors")
    assert load_model(tmp_path / "folder" / "model.safetensors").kind == "regressor"
    assert "holds a regressor" in swinv2("predict", "--weights", tmp_path / "folder", photo).err


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_weights_that_are_left_out_are_asked_for(swinv2: Callable, verb: str) -> None:
    for arguments in ((), ("--weights",)):
        status, out, err = swinv2(verb, *arguments)
        assert (status, out) == (2, "")
        assert "--weights" in err or "weights" in err


@pytest.mark.parametrize("axes", [2, 3])
def test_weights_of_a_classifier_are_read_once(
    swinv2: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axes: int
) -> None:
    """And the module for images, or for clips, is given what was read."""
    config = {**SMALL, "patch_size": (2,) * axes}
    save(SwinTransformer(SwinConfig(**config, num_classes=2)), tmp_path / "model.safetensors")
    opened, read = [], reading.read_safetensors
    monkeypatch.setattr(reading, "read_safetensors", lambda path: opened.append(path) or read(path))
    (tmp_path / "input").write_bytes(b"")
    status, _, err = swinv2("predict", "--weights", tmp_path / "model.safetensors", tmp_path / "input")
    assert (status, opened) == (2, [tmp_path / "model.safetensors"])
    assert "does not name its 2 classes" in err

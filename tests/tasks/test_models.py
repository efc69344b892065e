"""Files of a model that the package does not know, with a head of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from torch import nn

import swinv2
from swinv2.checkpoint import load, save
from swinv2.checkpoint.pretraining import load_simmim
from swinv2.config import SwinConfig
from swinv2.info import ModelInfo
from swinv2.model import Native, SimMIM, SwinTransformer
from swinv2.preprocessing import Preprocessing
from swinv2.storage import read, recorded_kind
from swinv2.tasks.models import MODELS, load_model, make_model

pytestmark = pytest.mark.usefixtures("one_thread")

PREPROCESSING = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)


def config(**changes: object) -> SwinConfig:
    fields = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "patch_size": (2, 2), "window_size": 4}
    return SwinConfig(**{**fields, **changes})


def images(size: int = 16) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def regressor(toy: ModuleType, randomise: Callable[..., nn.Module]) -> Callable[..., Native]:
    """A regressor of random weights, with the statistics of a batch."""

    def make(**changes: object) -> Native:
        model = randomise(toy.Regressor(config(num_classes=2, **changes), width=4))
        model.info = ModelInfo(classes=("dark", "light"), preprocessing=PREPROCESSING, extra={"note": "toy"})
        model.train()(images())
        return model.eval()

    return make


@pytest.fixture
def path(regressor: Callable[..., Native], tmp_path: Path) -> Path:
    save(regressor(), tmp_path / "toy.safetensors")
    return tmp_path / "toy.safetensors"


def test_a_file_alone_rebuilds_the_model(regressor: Callable[..., Native], path: Path) -> None:
    model, again = regressor(), load_model(path)
    assert (again.config, again.info, again.head_config) == (model.config, model.info, {"width": 4})
    assert not again.training
    assert torch.equal(again(images()), model(images()))
    assert again.norm.num_batches_tracked.item() == 1
    assert recorded_kind(path) == read(path).kind == "regressor"


def test_half_precision_becomes_fp32(regressor: Callable[..., Native], tmp_path: Path) -> None:
    save(regressor().bfloat16(), tmp_path / "half.safetensors")
    assert {p.dtype for p in load_model(tmp_path / "half.safetensors").parameters()} == {torch.float32}


@pytest.mark.parametrize("bias", ["log_cpb", "table"])
def test_another_window_is_that_of_the_encoder(regressor: Callable[..., Native], tmp_path: Path, bias: str) -> None:
    """As `swinv2.load` transfers the same weights."""
    save(regressor(position_bias=bias), tmp_path / "toy.safetensors")
    moved = load_model(tmp_path / "toy.safetensors", window_size=6)
    body = {
        name.removeprefix("backbone."): tensor
        for name, tensor in read(tmp_path / "toy.safetensors").tensors.items()
        if name.startswith(("backbone.patch_embed.", "backbone.stages."))
    }
    plain = SwinTransformer(config(position_bias=bias))
    plain.load_state_dict(plain.state_dict() | body)
    save(plain, tmp_path / "plain.safetensors")
    expected = load(tmp_path / "plain.safetensors", window_size=6)
    assert moved.config.window_size == ((6, 6), (6, 6))
    for one, other in zip(moved.body._stage_outputs(images(24)), expected._stage_outputs(images(24)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_encoders_are_models_too(tmp_path: Path, randomise: Callable[..., nn.Module]) -> None:
    for model in (SwinTransformer(config(num_classes=3)), SimMIM(config())):
        save(randomise(model), tmp_path / "own.safetensors")
        again = load_model(tmp_path / "own.safetensors", model.kind)
        assert type(again) is type(model)
        assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())
        assert recorded_kind(tmp_path / "own.safetensors") == model.kind


def test_files_that_tell_no_kind_are_encoders(tmp_path: Path) -> None:
    """As those written before kinds were."""
    for model in (SwinTransformer(config(num_classes=3)), SimMIM(config())):
        save(model, tmp_path / "new.safetensors")
        with safe_open(tmp_path / "new.safetensors", "pt") as file:
            said = {name: text for name, text in file.metadata().items() if name != "kind"}
        from safetensors.torch import save_file

        save_file(model.state_dict(), tmp_path / "old.safetensors", said)
        assert recorded_kind(tmp_path / "old.safetensors") is None
        assert isinstance(load_model(tmp_path / "old.safetensors"), type(model))


def test_conversion_keeps_the_kind(tmp_path: Path) -> None:
    save(SimMIM(config()), tmp_path / "own.safetensors")
    swinv2.convert(tmp_path / "own.safetensors", to="swinv2", path=tmp_path / "again.safetensors")
    assert recorded_kind(tmp_path / "again.safetensors") == "simmim"


@pytest.mark.parametrize(
    "reader",
    [load, load_simmim, lambda path: swinv2.convert(path, to="swinv2"), lambda path: load_model(path, "classifier")],
    ids=["load", "load_simmim", "convert", "load_model"],
)
def test_another_kind_is_refused_in_one_sentence(path: Path, reader: Callable[[Path], object]) -> None:
    with pytest.raises(ValueError, match=r"toy\.safetensors' holds a regressor, not a classifier: ") as caught:
        reader(path)
    assert "\n" not in str(caught.value)


def test_no_other_format_has_a_place_for_it(regressor: Callable[..., Native], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The timm format has no regressor: use 'swinv2'"):
        save(regressor(), tmp_path / "toy.pth", to="timm")


def test_an_unknown_kind_and_a_head_that_does_not_fit_are_one_sentence(
    path: Path, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"a regressor cannot be made of .*'depth': 3"):
        make_model("regressor", config(), {"depth": 3})
    monkeypatch.delitem(MODELS, "regressor")
    with pytest.raises(ValueError, match=r"no model of kind 'regressor' \(known: classifier, .*\): update swinv2"):
        load_model(path)


def test_tensors_of_another_head_are_named(regressor: Callable[..., Native], tmp_path: Path) -> None:
    model = regressor()
    model.head_config = {"width": 5}
    save(model, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"has another shape for first\.bias, first\.weight"):
        load_model(tmp_path / "odd.safetensors")

"""What a run starts with; weights are written in every format by `swinv2.checkpoint`, whose own tests compare those
with the other libraries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from swinv2.checkpoint import load, loading, save
from swinv2.config import trained_windows
from swinv2.data.options import AugmentOptions
from swinv2.model import SwinTransformer, create_model
from swinv2.preprocessing import Preprocessing
from swinv2.train.classify import initial
from swinv2.train.initial import show_windows
from swinv2.train.options import Recipe, SegmentOptions
from swinv2.train.segment import initial as segment_initial

Tiny = Callable[..., Recipe]
CLASSES = ("owl", "dog", "cat")
INPUT = Preprocessing(size=(16, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), crop_fraction=0.9)
SMALL = {"embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "patch_size": [2, 2]}
FILES = {
    "swinv2": "own.safetensors",
    "timm": "timm.safetensors",
    "microsoft": "microsoft.pth",
    "torchvision": "torchvision.pth",
    "mmpretrain": "mmpretrain.pth",
    "transformers": "folder",
}


@pytest.fixture
def weights(tmp_path: Path, randomise: Callable[..., SwinTransformer]) -> Callable[..., Path]:
    """Write a tiny model for CLASSES, trained at window 4 of maps 8 and 4."""

    def write(to: str = "swinv2", name: str = "swinv2_nano", channels: int = 3) -> Path:
        model = create_model(name, window_size=4, image_size=16, num_classes=3, in_channels=channels, **SMALL)
        known = replace(INPUT, mean=INPUT.mean[:channels], std=INPUT.std[:channels])
        save(randomise(model), tmp_path / FILES[to], to=to, classes=CLASSES, preprocessing=known)
        return tmp_path / FILES[to]

    return write


@pytest.fixture
def recipe(tiny: Tiny) -> Callable[..., Recipe]:
    """A recipe that leaves to the weights what it can: recipe(path, window_size=8)."""

    def make(path: object, preprocessing: dict[str, object] | None = None, **model: object) -> Recipe:
        nothing = {"mean": None, "std": None, **(preprocessing or {})}
        model = {"image_size": None, "window_size": None, "overrides": {}, **model}
        return tiny(model={**model, "weights": str(path)}, preprocessing=nothing)

    return make


def images(size: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def output(model: SwinTransformer, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(x)


def features(model: SwinTransformer) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval().forward_features(images())


@pytest.mark.parametrize("to", FILES)
def test_every_format_starts_with_its_own_features(weights, recipe, to: str) -> None:
    """What a file of another library is silent about is given."""
    path, own = weights(to), load(weights())
    silent = path.suffix == ".pth"
    given = {"image_size": 16, "overrides": {"trained_window_size": 4}} if silent else {}
    start = initial(recipe(path, **given), ("cat", "dog"))
    torch.testing.assert_close(features(start.model), features(own), rtol=1e-6, atol=1e-7)
    assert start.model.info.source == to
    assert start.remarks[0].startswith(f"starting from {path} ({to}): new head for 2 classes; window 4 (trained at 4)")
    assert ("mean and std unknown, so ImageNet's" in start.remarks[0]) == silent


@pytest.mark.parametrize("to", ["swinv2", "timm", "transformers"])
def test_the_head_is_kept_for_the_same_classes_in_any_order(weights, recipe, to: str) -> None:
    path = weights(to)
    start = initial(recipe(path), ("cat", "dog", "owl"))
    expected = output(load(path), images())[:, [2, 1, 0]]
    torch.testing.assert_close(output(start.model, images()), expected, rtol=0, atol=0)
    assert "head kept, its classes in the order of the data; window" in start.remarks[0]
    assert "head kept; window" in initial(recipe(path), CLASSES).remarks[0]


def test_pre_trained_weights_without_a_head(weights, recipe, tmp_path: Path) -> None:
    """As SimMIM leaves them: what belongs to the pre-training alone is named once and left out."""
    path = weights("microsoft")
    kept = {f"encoder.{name}": tensor for name, tensor in torch.load(path)["model"].items() if "head" not in name}
    kept |= {"encoder.mask_token": torch.ones(1, 1, 8)}
    kept |= {"decoder.0.weight": torch.ones(48, 16, 1, 1), "decoder.0.bias": torch.ones(48)}
    torch.save({"model": kept}, tmp_path / "simmim.pth")
    start = initial(recipe(tmp_path / "simmim.pth", image_size=16), ("cat", "dog"))
    torch.testing.assert_close(features(start.model), features(load(path)), rtol=0, atol=0)
    assert start.model.head.weight.shape == (2, 16)
    assert [line.startswith("note: ") for line in start.remarks] == [False, True]
    assert "mask token" in start.remarks[1]


def test_a_model_with_a_head_of_its_own_reads_its_weights_once(weights, recipe, tmp_path: Path, monkeypatch) -> None:
    """And says once what it leaves out of a pre-training."""
    path = weights("microsoft")
    kept = {f"encoder.{name}": tensor for name, tensor in torch.load(path)["model"].items() if "head" not in name}
    kept |= {"encoder.mask_token": torch.ones(1, 1, 8)}
    torch.save({"model": kept}, tmp_path / "simmim.pth")
    reads = []
    read = loading.read
    monkeypatch.setattr(loading, "read", lambda source, **rest: reads.append(source) or read(source, **rest))
    asked = recipe(tmp_path / "simmim.pth", {"mean": (0.5,), "std": (0.25,)}, image_size=16, window_size=2)
    heads = {"channels": 8, "auxiliary_map": None}
    segment = {"task": "segment", "augment": AugmentOptions(), "segment": SegmentOptions(heads=heads)}
    start = segment_initial(replace(asked, **segment), CLASSES)
    assert len(reads) == 1
    assert [line.startswith("note: ") for line in start.remarks] == [False, True]
    expected = load(path, window_size=2, in_channels=1).feature_maps(images(channels=1))
    for ours, theirs in zip(start.model.eval().backbone._stage_outputs(images(channels=1)), expected, strict=True):
        torch.testing.assert_close(ours.movedim(-1, 1), theirs, rtol=0, atol=0)


def test_silent_weights_keep_what_they_know(weights, recipe) -> None:
    assert initial(recipe(weights()), CLASSES).recipe.input == INPUT


@pytest.mark.parametrize("classes", [("fox", "dog", "cat"), ("cat", "dog"), ("cat", "dog", "owl", "fox")])
def test_other_classes_have_a_fresh_head_on_the_same_features(weights, recipe, classes: tuple[str, ...]) -> None:
    path = weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start = initial(recipe(path), classes)
    old = load(path)
    torch.testing.assert_close(features(start.model), features(old), rtol=0, atol=0)
    assert start.model.head.weight.shape == (len(classes), old.num_features)
    assert not torch.equal(start.model.head.weight[:2], old.head.weight[:2])
    assert start.model.head.weight.detach().std() == pytest.approx(0.02, rel=0.5)
    assert f"new head for {len(classes)} classes" in start.remarks[0]


@pytest.mark.parametrize("name", ["swinv2_nano", "swin_tiny"])
def test_another_window_and_resolution(weights, recipe, name: str) -> None:
    """The bias is that of the weights at the new window, which for V2 their trained window fixes."""
    path = weights(name=name)
    start = initial(recipe(path, window_size=6, image_size=24), CLASSES)
    assert start.model.config.window_size == ((6, 6), (6, 6))
    expected = output(load(path, window_size=6), images(24))
    torch.testing.assert_close(output(start.model, images(24)), expected, rtol=0, atol=0)
    assert not torch.allclose(expected, output(load(path), images(24)), atol=1e-5)
    bias = " (trained at 4)" if name == "swinv2_nano" else ""
    assert start.remarks[0].endswith(f"window 4 -> 6{bias}; images 16x16 -> 24x24")
    if name == "swinv2_nano":
        assert start.model.config.trained_window_size == trained_windows(load(path).config, (16, 16))


def test_gray_images_look_to_summed_kernels_as_their_rgb_copies_did(weights, recipe) -> None:
    path = weights()
    start = initial(recipe(path, {"mean": (0.5,), "std": (0.25,)}), CLASSES)
    gray = images(channels=1)
    torch.testing.assert_close(output(start.model, gray), output(load(path), gray.expand(-1, 3, -1, -1)))
    assert "3 -> 1 channels, kernels summed" in start.remarks[0]
    assert start.recipe.input == replace(INPUT, mean=(0.5,), std=(0.25,))


def test_further_channels_repeat_the_kernels(weights, recipe) -> None:
    path = weights()
    start = initial(recipe(path, {"mean": (0.5,) * 4, "std": (0.25,) * 4}), CLASSES)
    new, old = (model.patch_embed.projection.weight for model in (start.model, load(path)))
    torch.testing.assert_close(new, old[:, [0, 1, 2, 0]] * 3 / 4)
    assert "3 -> 4 channels, kernels repeated" in start.remarks[0]


def test_training_does_not_see_the_file_change(weights, recipe) -> None:
    path = weights()
    start = initial(recipe(path), CLASSES)
    before = output(start.model, images())
    with path.open("r+b") as file:
        file.seek(-4000, 2)
        file.write(bytes(4000))
    assert torch.equal(output(start.model, images()), before)


def test_stages_are_frozen(weights, recipe) -> None:
    start = initial(recipe(weights(), frozen_stages=1), CLASSES)
    frozen = {name for name, parameter in start.model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name in start.model.state_dict() if name.startswith(("patch_embed.", "stages.0."))}
    assert start.model.stages[1].training
    assert not start.model.stages[0].training
    assert "1 of 2 stages frozen" in start.remarks[0]


def test_several_sets_of_weights_are_told_apart_by_their_key(weights, recipe) -> None:
    path = weights("microsoft")
    kept = torch.load(path)["model"]
    torch.save({"model": kept, "ema": {name: tensor * 2 for name, tensor in kept.items()}}, path)
    with pytest.raises(ValueError, match="several sets of weights"):
        initial(recipe(path, image_size=16), CLASSES)
    start = initial(recipe(path, image_size=16, weights_key="ema"), CLASSES)
    torch.testing.assert_close(start.model.norm.weight.detach(), kept["norm.weight"] * 2)


def test_overrides_that_weights_leave_open(weights, recipe) -> None:
    start = initial(recipe(weights(), overrides={"drop_path_rate": 0.3}), CLASSES)
    assert start.model.config.drop_path_rate == 0.3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "swinv2_tiny"}, r"model.name swinv2_tiny has embed_dim 96, but .*own.safetensors has 8: leave"),
        ({"name": "swinv2_nano", "overrides": {**SMALL, "mlp_ratio": 2.0}}, "mlp_ratio"),
        ({"frozen_stages": 3}, r"model.frozen_stages 3 is more than the 2 stages of .*own.safetensors"),
        ({"overrides": {"embed_dim": 16}}, "embed_dim"),
        ({"window_size": 0}, "window_size"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, recipe, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        initial(recipe(weights(), **options), CLASSES)
    assert "\n" not in str(caught.value)


def test_a_name_that_fits_is_accepted(weights, recipe) -> None:
    assert initial(recipe(weights(), name="swinv2_nano", overrides=SMALL), CLASSES).remarks


def test_weights_of_other_channels_must_say_how_pixels_become_input(weights, recipe) -> None:
    path = weights(channels=1)
    assert initial(recipe(path), CLASSES).recipe.input.mean == (0.4,)
    save(load(path), path.with_suffix(".pth"), to="microsoft")
    with pytest.raises(ValueError, match=r"takes 1 channels and does not say.*preprocessing\.mean"):
        initial(recipe(path.with_suffix(".pth"), image_size=16), CLASSES)


def test_random_weights_are_not_frozen(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="frozen_stages 1 would keep random weights"):
        initial(tiny(model={"frozen_stages": 1}), CLASSES)


def test_windows_are_shown_in_short() -> None:
    assert show_windows(((8, 8), (8, 8))) == "8"
    assert show_windows(((8, 8), (4, 7))) == "8,4x7"

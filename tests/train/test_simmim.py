"""Runs of pre-training, of seconds, on images without labels; and fine-tuning from what they leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from swinv2.checkpoint import load, save
from swinv2.checkpoint.pretraining import load_simmim
from swinv2.data.labelled import labelled_images
from swinv2.data.loading import make_loader
from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.data.sources import open_split
from swinv2.data.transforms import eval_transform, train_transform
from swinv2.model import SimMIM, create_model
from swinv2.model.simmim import masked_loss
from swinv2.preprocessing import Preprocessing
from swinv2.tasks.simmim import SimMIMTask
from swinv2.train.optim import optimise
from swinv2.train.options import Recipe, SimMIMOptions
from swinv2.train.recipe import dump_recipe, load_recipe
from swinv2.train.run import train
from swinv2.train.simmim import RECONSTRUCTIONS, draw_reconstructions, initial, masking, pixels, task

Make = Callable[..., Recipe]


RECIPE = Path(__file__).parents[2] / "recipes" / "simmim_nano.yaml"
"""That of this repository's own; test_published.py has the others."""


def quiet(line: str) -> None:
    """Takes the log's lines."""


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """20 images of coloured squares, in one folder."""
    colours = np.random.default_rng(0)
    (tmp_path / "flat").mkdir()
    for number in range(20):
        squares = colours.integers(0, 255, (3, 3, 3)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
        Image.fromarray(squares).save(tmp_path / "flat" / f"{number}.png")
    return tmp_path / "flat"


@pytest.fixture
def pretraining(tiny: Make, flat: Path) -> Make:
    """The tiny recipe as a pre-training: images of 24 pixels, a window of 12 tokens."""

    def make(**groups: dict[str, Any]) -> Recipe:
        recipe = replace(
            tiny(model={"image_size": 24, "window_size": 12}, optimizer={"base_lr": 0.1}, trainer={"ema_decay": None}),
            task="simmim",
            data=DataOptions(path=str(flat), workers=0),
            augment=AugmentOptions(
                scale=(0.67, 1.0), rand_augment=None, color_jitter=0, erase=0, mixup=0, cutmix=0, label_smoothing=0
            ),
            simmim=SimMIMOptions(mask_unit=4, target_window=11),
        )
        return replace(recipe, **{name: replace(getattr(recipe, name), **options) for name, options in groups.items()})

    return make


def test_a_run_on_a_flat_folder_leaves_everything(pretraining: Make, tmp_path: Path) -> None:
    recipe, lines = pretraining(), []
    folder = train(recipe, tmp_path / "run", say=lines.append)
    pictures = {"curves.png", "reconstructions.png"}
    assert {*folder.contents()} == {
        "best.safetensors",
        "checkpoints/",
        "config.yaml",
        "metrics.csv",
        "tensorboard/",
    } | pictures
    assert load_recipe(folder.config) == recipe.completed()
    assert lines[0] == "16 + 4 images, on cpu"
    assert "top-1" not in "".join(lines)
    assert folder.rows[2]["train_loss"] < folder.rows[0]["train_loss"]
    with Image.open(folder.path / RECONSTRUCTIONS) as picture:
        assert picture.width >= 500


@pytest.mark.parametrize("ema_decay", [None, 0.8])
def test_the_best_weights_are_those_with_the_lowest_loss(
    pretraining: Make, flat: Path, tmp_path: Path, ema_decay: float | None
) -> None:
    """Measured again from the file, by the masks of validation."""
    recipe = pretraining(trainer={"ema_decay": ema_decay})
    folder = train(recipe, tmp_path / "run", say=quiet)
    model = load_simmim(folder.best)
    source = open_split(recipe.data, "val", labelled=False)
    (batch,) = make_loader(
        labelled_images(source, eval_transform(model.info.preprocessing)), batch_size=9, shuffle=False
    )
    mask = SimMIMTask(model, masking(recipe), optimise=lambda _: None).masks(batch.images, batch.indices.tolist())
    with torch.no_grad():
        loss = masked_loss(model(batch.images, mask), batch.images, mask, 11).item()
    assert loss == pytest.approx(min(row["val_loss"] for row in folder.rows), rel=1e-5)


@pytest.mark.filterwarnings("ignore:the mask token and decoder of the pre-training")
def test_fine_tuning_begins_at_the_encoder_with_another_window(pretraining: Make, tiny: Make, tmp_path: Path) -> None:
    """12 -> 14, as published; with a learning rate of next to nothing the encoder stays as it was."""
    before = train(pretraining(trainer={"epochs": 1}), tmp_path / "before", say=quiet).best
    slow = {"optimizer": {"base_lr": 1e-9}, "schedule": {"warmup_lr": 0.0, "min_lr": 0.0}, "trainer": {"epochs": 1}}
    tuned = {"weights": str(before), "window_size": 14, "image_size": 28, "overrides": {"drop_path_rate": 0.1}}
    lines = []
    folder = train(tiny(model=tuned, **slow), tmp_path / "run", say=lines.append)
    assert "new head for 2 classes; window 12 -> 14 (trained at 12,6); images 24x24 -> 28x28" in lines[0]
    assert lines[1] == "note: the mask token and decoder of the pre-training are no part of the model: left out"
    old, new = load_file(before), load_file(folder.best)
    assert old.keys() - new.keys() == {"mask_token", "decoder.weight", "decoder.bias"}
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old.keys() & new.keys())
    assert load(folder.best).info.classes == ("cat", "dog")


def test_pre_training_goes_on_from_weights_of_its_own(pretraining: Make, tmp_path: Path) -> None:
    """Mask token and decoder included; only what is taken from the file is left open in the recipe."""
    before = train(pretraining(trainer={"epochs": 1}), tmp_path / "before", say=quiet).best
    slow = {"optimizer": {"base_lr": 1e-9}, "schedule": {"warmup_lr": 0.0, "min_lr": 0.0}, "trainer": {"epochs": 1}}
    lines = []
    model = {"weights": str(before), "image_size": None, "window_size": None, "overrides": {}}
    folder = train(pretraining(model=model, **slow), tmp_path / "run", say=lines.append)
    assert lines[0] == f"starting from {before} (swinv2): window 12 (trained at 12,6)"
    assert lines[1] == "16 + 4 images, on cpu"
    old, new = load_file(before), load_file(folder.best)
    assert old.keys() == new.keys()
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)


def test_pre_training_around_a_classifiers_encoder(pretraining: Make, tiny: Make, tmp_path: Path) -> None:
    before = train(tiny(trainer={"epochs": 1}), tmp_path / "before", say=quiet).best
    lines = []
    model = {"weights": str(before), "image_size": 8, "window_size": None, "overrides": {}}
    recipe = pretraining(model=model, trainer={"epochs": 1})
    train(recipe, tmp_path / "run", say=lines.append)
    assert lines[1].startswith(
        "note: mask_token, decoder.weight, decoder.bias of the pre-training are not in the weights"
    )


def test_a_stopped_run_goes_on_to_the_same_weights(pretraining: Make, tmp_path: Path) -> None:
    """Masks are of the epoch, so that the second half sees those of an undisturbed run."""
    constant = {"schedule": {"kind": "constant", "warmup_epochs": 0.0, "min_lr": 0.0}}
    whole = train(pretraining(trainer={"epochs": 2}, **constant), tmp_path / "whole", say=quiet)
    train(pretraining(trainer={"epochs": 1}, **constant), tmp_path / "parts", say=quiet)
    parts = train(pretraining(trainer={"epochs": 2}, **constant), tmp_path / "parts", resume=True, say=quiet)
    a, b = (torch.load(folder.last, weights_only=True)["state_dict"] for folder in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert isinstance(load_simmim(parts.best), SimMIM)


def test_class_folders_and_other_channels_serve_too(pretraining: Make, photos: Path, tmp_path: Path) -> None:
    recipe = pretraining(
        data={"path": str(photos)}, trainer={"epochs": 1}, preprocessing={"mean": (0.5,), "std": (0.25,)}
    )
    model = load_simmim(train(recipe, tmp_path / "run", say=quiet).best)
    assert model.config.in_channels == 1


def test_unreadable_images_are_passed_over(pretraining: Make, flat: Path, tmp_path: Path) -> None:
    for number in range(5):
        (flat / f"{number}.png").write_bytes(b"")
    folder = train(pretraining(trainer={"epochs": 1}), tmp_path / "run", say=quiet)
    assert len(folder.skipped.read_text().splitlines()) == 5
    assert (folder.path / RECONSTRUCTIONS).exists()


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            {"simmim": {"mask_unit": 5}},
            "images of 24x24 pixels do not divide into mask units of 5x5: use an image size",
        ),
        ({"simmim": {"mask_unit": 3}}, r"mask units of \(3, 3\) pixels hold no whole number of patches of \(2, 2\)"),
        ({"simmim": {"mask_ratio": 0.0}}, "mask ratio 0.0 is outside"),
        ({"simmim": {"target_window": 6}}, "target window 6 is not an odd number"),
        ({"model": {"frozen_stages": 1}}, "model.frozen_stages 1 would keep random weights"),
    ],
)
def test_what_cannot_be_is_refused_without_a_folder(
    pretraining: Make, tmp_path: Path, groups: dict[str, dict[str, Any]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        train(pretraining(**groups), tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()


def test_weights_of_videos_are_refused(pretraining: Make, tmp_path: Path) -> None:
    model = create_model("swinv2_video_nano", depths=(1, 1), num_heads=(1, 2), window_size=2, num_classes=0)
    save(model, tmp_path / "clip.safetensors")
    with pytest.raises(ValueError, match="is a model of videos, but task simmim takes images"):
        train(
            pretraining(model={"weights": str(tmp_path / "clip.safetensors"), "overrides": {}}),
            tmp_path / "run",
            say=quiet,
        )


def test_options_that_the_task_would_not_heed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"augment\.mixup 0\.8 mixes or smooths labels"):
        Recipe(task="simmim")
    with pytest.raises(ValueError, match="the simmim options are of task simmim"):
        Recipe(simmim=SimMIMOptions(mask_ratio=0.5))


def test_the_recipe_survives_its_file(pretraining: Make, tmp_path: Path) -> None:
    recipe = pretraining(simmim={"mask_unit": (4, 8), "target_window": None})
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_the_recipe_of_the_repository_can_be_built() -> None:
    """Model, transforms, masks and optimiser: one step on one made-up image."""
    start = initial(load_recipe(RECIPE))
    recipe, model = start.recipe, start.model
    photo = Image.new("RGB", (50, 40))
    transforms = (train_transform(recipe.augment, recipe.input), eval_transform(recipe.input))
    images = torch.stack([transform(photo) for transform in transforms])
    made = task(recipe, model, lambda _: None)
    mask = made.masks(images, [0, 1])
    optimizer = optimise(model, recipe=recipe, total_steps=100)["optimizer"]
    before = model.mask_token.clone()
    masked_loss(model(images, mask), images, mask, recipe.simmim.target_window).backward()
    optimizer.step()
    assert not torch.equal(model.mask_token, before)


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 1, 8, 8), (1, 4, 8, 8), (2, 3, 4, 8, 6)], ids=str)
def test_pictures_show_rows_of_original_masked_and_reconstruction(shape: tuple[int, ...]) -> None:
    originals = torch.rand(shape)
    figure = draw_reconstructions(originals, originals * 0.5, originals * 0.25, title="epoch 3")
    assert [axes.get_title() for axes in figure.axes[:3]] == ["original", "masked", "reconstruction"]
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == 3 * shape[0]
    frame = originals if len(shape) == 4 else originals[:, :, 2]
    expected = frame[0, 0] if shape[1] == 1 else frame[0].movedim(0, -1)
    for picture, factor in zip(shown, (1.0, 0.5, 0.25), strict=False):
        np.testing.assert_allclose(picture, factor * expected.numpy(), rtol=1e-6)


def test_pixels_undo_the_normalisation() -> None:
    preprocessing = Preprocessing(size=(2, 2), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20)
    shown = pixels(eval_transform(preprocessing)(image)[None], preprocessing)
    torch.testing.assert_close(shown[0].movedim(0, -1), torch.arange(12.0).view(2, 2, 3) * 20 / 255)

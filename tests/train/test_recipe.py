from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.data.transforms import eval_transform, mixing, train_transform
from swinv2.train.classify import initial
from swinv2.train.optim import optimise
from swinv2.train.options import AttentionOptions, ModelOptions, Recipe, TrainerOptions
from swinv2.train.recipe import changes, dump_recipe, load_recipe, parse, recipe_parser

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = [FOLDER / f"{name}.yaml" for name in ("cifar10_micro", "digits_nano", "finetune_folder", "folder_nano")]
"""Those of this repository's own; test_published.py has the others."""


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = Recipe(
        model=ModelOptions(
            image_size=(24, 32), window_size=[4, [2, 3]], overrides={"depths": [1, 2], "mlp_ratio": 2.0}
        ),
        data=DataOptions(path="a: b", strict=True, image_column="photo"),
        augment=AugmentOptions(rand_augment=None, scale=(0.5, 1.0)),
        trainer=TrainerOptions(ema_decay=0.999, devices=2, max_minutes=1.5),
        attention=AttentionOptions(backend="sequential", stages=(0, 1), budget_mb=64.0),
    )
    path = tmp_path / "recipe [1].yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_can_be_built(path: Path) -> None:
    """Model, transforms, mixing and optimiser: one step on one made-up image."""
    start = initial(load_recipe(path), [str(label) for label in range(10)])
    recipe, model, preprocessing = start.recipe, start.model, start.recipe.input
    photo = Image.new({1: "L", 3: "RGB"}[preprocessing.channels], (50, 40))
    transforms = (train_transform(recipe.augment, preprocessing), eval_transform(preprocessing))
    images, labels = torch.stack([transform(photo) for transform in transforms]), torch.tensor([3, 7])
    mix = mixing(recipe.augment, 10)
    images, targets = mix(images, labels) if mix else (images, labels)
    made = optimise(model, recipe=recipe, total_steps=100)
    before = model.head.weight.clone()
    torch.nn.functional.cross_entropy(model(images), targets).backward()
    made["optimizer"].step()
    assert model.head.weight.shape == (10, model.num_features)
    assert not torch.equal(model.head.weight, before)


def test_small_numbers_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("optimizer: {base_lr: 5e-4}")
    assert load_recipe(path) == Recipe()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed: 3", r"no option sed \(the nearest is 'seed'\)"),
        ("trainer: {epochz: 3}", r"no option trainer\.epochz \(the nearest is 'trainer\.epochs'\)"),
        ("3", "KEY: VALUE"),
        ("base: none.yaml", r"none\.yaml is not a file"),
        ("base: recipe.yaml", "leads back"),
        ("trainer: {epochs: many}", "trainer.epochs"),
        ("trainer: {epochs: 3", "parsing"),
        ("trainer: {epochs: 0}", "trainer.epochs 0 is too small"),
        ("task: detct", "task"),
    ],
)
def test_a_wrong_recipe_is_one_sentence_that_names_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_base_is_changed_value_by_value(tmp_path: Path) -> None:
    """Over two files, found beside the one that names them; a value that is a mapping is replaced whole."""
    (tmp_path / "a.yaml").write_text(
        "seed: 3\ntrainer: {epochs: 40, batch_size: 8}\nmodel: {overrides: {mlp_ratio: 2.0}}"
    )
    (tmp_path / "b.yaml").write_text("base: a.yaml\ntrainer: {epochs: 50}\nmodel: {overrides: {drop_path_rate: 0.2}}")
    (tmp_path / "c.yaml").write_text("base: b.yaml\nseed: 4\n")
    recipe = load_recipe(tmp_path / "c.yaml")
    assert recipe == Recipe(
        seed=4,
        model=ModelOptions(overrides={"drop_path_rate": 0.2}),
        trainer=TrainerOptions(epochs=50, batch_size=8),
    )


def test_a_misspelt_flag_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"nearest is 'trainer\.epochs'"):
        parse(recipe_parser(), ["--trainer.epocs", "3"])


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml is not a file"):
        load_recipe(tmp_path / "none.yaml")


def test_changes_name_what_differs_at_any_depth() -> None:
    old = Recipe()
    new = replace(
        old, seed=1, model=ModelOptions(overrides={"mlp_ratio": 2.0}), trainer=replace(old.trainer, batch_size=8)
    )
    assert changes(old, old) == []
    assert changes(old, new) == ["seed", "trainer.batch_size", "model.overrides.mlp_ratio"]

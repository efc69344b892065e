from __future__ import annotations

import re

import pytest

from swinv2.config import SwinConfig
from swinv2.study.base import STUDIES, Setting, Subject, find_study
from swinv2.study.scales import changed, recipes
from swinv2.train.initial import fresh_config
from swinv2.train.options import Recipe


def test_changes_are_made_all_at_once() -> None:
    recipe = changed(
        Recipe(),
        {
            "trainer.epochs": None,
            "trainer.steps": 10,
            "trainer.validate_every": 5,
            "schedule.warmup_steps": 2,
            "model.overrides": {"depths": [2, 2]},
            "model.overrides.num_heads": [1, 2],
        },
    )
    assert (recipe.trainer.epochs, recipe.trainer.steps, recipe.schedule.warmup_steps) == (None, 10, 2)
    assert recipe.model.overrides == {"depths": [2, 2], "num_heads": [1, 2]}
    assert Recipe().model.overrides == {}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("trainer.epoch", "there is no option epoch of a recipe (the nearest is 'epochs')"),
        ("triner.epochs", "there is no option triner.epochs of a recipe (the nearest is 'trainer')"),
        ("model.overrides.depth", "model.overrides.depth is no field of SwinConfig (the nearest is 'depths')"),
        ("trainer.batch_size", "trainer.batch_size 0 is too small"),
    ],
)
def test_a_change_that_cannot_be_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        changed(Recipe(), {name: 0})


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("setting", [Setting(), Setting(data="photos"), Setting(scale="paper", data="imagenet")])
def test_every_training_of_every_study_can_be(name: str, setting: Setting) -> None:
    study = find_study(name)
    cells = {cell.name: cell for cell in study.cells(setting)}
    assert len(cells) == len(study.cells(setting)), "two cells have one name"
    made = recipes(study, setting, cells)
    assert bool(made) == bool(study.bases)
    for each, recipe in made.items():
        assert isinstance(fresh_config(recipe.completed(), num_classes=10), SwinConfig)
        assert recipe.data.path == setting.data
        assert recipe.trainer.validate_every is not None
        assert cells[each].start is None or cells[each].start in list(cells)[: list(cells).index(each)]


@pytest.mark.parametrize("name", [name for name in STUDIES if find_study(name).takes_weights])
def test_weights_need_no_training(name: str) -> None:
    cells = find_study(name).cells(Setting(subject=Subject(weights="tiny.pth")))
    assert [cell.changes for cell in cells] == [None]


def test_cells_of_a_study_differ_in_what_it_varies_alone() -> None:
    study, setting = find_study("stability"), Setting(data="photos")
    made = recipes(study, setting, {cell.name: cell for cell in study.cells(setting)})
    v1, v2 = made["v1-high-0"], made["v2-high-0"]
    assert v1.model.overrides["norm_placement"] == "pre"
    assert v2.model.overrides["position_bias"] == "log_cpb"
    assert changed(v1, {"model.overrides": v2.model.overrides}) == v2


def test_whoever_sets_what_a_study_varies_is_refused() -> None:
    study = find_study("norm-and-attention")
    for name in ("optimizer.base_lr", "seed", "model.overrides.norm_placement", "trainer.max_minutes"):
        setting = Setting(changes={name: 1})
        with pytest.raises(ValueError, match=f"^{name} is what this study varies or sets by itself: leave it out.$"):
            recipes(study, setting, {})


def test_options_of_everybody_stand_under_those_of_a_cell() -> None:
    study = find_study("window-transfer")
    setting = Setting(changes={"trainer.epochs": 3, "data.workers": 0})
    made = recipes(study, setting, {cell.name: cell for cell in study.cells(setting)})
    first, tuned = made["swinv2_nano-log_cpb-0"], made["swinv2_nano-log_cpb-0-tuned"]
    assert (first.trainer.epochs, first.trainer.validate_every, first.data.workers) == (3, 3, 0)
    assert (tuned.trainer.epochs, tuned.trainer.steps, tuned.data.workers) == (None, 40, 0)
    assert (tuned.model.image_size, tuned.model.window_size) == (32, 8)

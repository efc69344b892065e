from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from swinv2.config import SwinConfig
from swinv2.model import SwinBackbone, SwinTransformer, create_model
from swinv2.preprocessing import Preprocessing
from swinv2.study.activations import IMAGES, STUDY, WIDTHS, _validation
from swinv2.study.amplitudes import amplitudes, extremes, growth
from swinv2.study.base import Cell, Done, Setting, Subject
from swinv2.study.findings import Mean
from swinv2.study.scales import recipes
from swinv2.train.initial import fresh_config
from swinv2.train.recipe import dump_recipe

CONFIG = SwinConfig(
    embed_dim=8, depths=(2, 3), num_heads=(1, 2), window_size=4, patch_size=(2, 2), extra_norm_interval=2
)


@pytest.mark.parametrize("placement", ["pre", "sandwich", "post", "res_post"])
def test_amplitudes_are_those_of_the_blocks_one_by_one(randomise: Callable, placement: str) -> None:
    model = randomise(SwinTransformer(replace(CONFIG, norm_placement=placement))).eval()
    images = torch.randn(2, 3, 14, 10)
    expected = []
    with torch.no_grad():
        x = model.patch_embed(images)
        for stage in model.stages:
            x, own = stage.merge(x), []
            for block in stage.blocks:
                x = block(x)
                own.append(x.abs().mean().item())
            expected.append(own)
    found = amplitudes(model, images)
    assert [len(stage) for stage in found] == [2, 3]
    for own, reference in zip(found, expected, strict=True):
        assert own == pytest.approx(reference, rel=1e-5)
    assert amplitudes(SwinBackbone(model), images) == found
    assert not any(block._forward_hooks for stage in model.stages for block in stage.blocks)


def test_growth_is_that_of_the_third_stage_of_four() -> None:
    four = [[1.0, 9.0], [1.0, 9.0], [2.0, 3.0, 5.0], [1.0, 0.1]]
    assert growth(four) == 2.5
    assert growth(four[:2]) == 9.0
    assert growth(four[2:3]) == 2.5
    assert extremes(four) == pytest.approx(90.0)


@pytest.mark.slow
def test_a_pre_norm_model_grows_at_initialisation_and_a_res_post_norm_model_does_not() -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 3, 128, 128)
    assert growth(amplitudes(create_model("swin_tiny").eval(), images)) > 1.1
    assert growth(amplitudes(create_model("swinv2_tiny").eval(), images)) == pytest.approx(1.0)


UNSEEN = "not visible at this scale"
SIZES = ("tiny", "small", "base", "large", "huge")
GROWS = (1.2, 1.5, 1.8, 2.1, 2.7)


def trained(norm: str, width: int, seed: int, grown: float | None) -> Done:
    """A cell that grew so much, from 1.1 before training; None where it diverged."""
    factors = {"state": "trained", "norm": norm, "size": width, "seed": seed}
    if grown is None:
        return Done(Cell(factors=factors), {"diverged": "the loss is nan"})
    return Done(Cell(factors=factors), {"amplitudes": [[1.0], [1.0, grown]], "before": [[1.0], [1.0, 1.1]]})


def results(
    pre: Sequence[float | None], res_post: Sequence[float | None], grows: Sequence[float] = GROWS, wider: float = 1.0
) -> list[Done]:
    """Growth at initialisation, and of three seeds after training; under pre-norm more so where it is wider."""
    fresh = [
        Done(Cell(factors={"state": "init", "norm": norm, "size": size}), {"amplitudes": [[1.0], [1.0, own]]})
        for size, grown in zip(SIZES, grows, strict=True)
        for norm, own in (("pre", grown), ("res_post", 1.0))
    ]
    narrow, wide = WIDTHS["laptop"]
    return fresh + [
        trained(norm, width, seed, grown and grown * factor)
        for norm, found in (("pre", pre), ("res_post", res_post))
        for width, factor in ((narrow, 1.0), (wide, wider if norm == "pre" else 1.0))
        for seed, grown in enumerate(found)
    ]


LARGE, SMALL = [3.9, 4.0, 4.1], [1.4, 1.5, 1.6]
TEXTS = ("grows, fresh", "wider, fresh", "grows", "wider", "less", "gap", "10^4")
"""The claims, in their order."""


def words(found: list[Done]) -> dict[str, str]:
    return dict(zip(TEXTS, (claim.verdict.word for claim in STUDY.report(Setting(), found).claims), strict=True))


def test_figures_like_the_papers_show_its_claims_but_for_what_only_a_trained_h_can() -> None:
    expected = {**dict.fromkeys(TEXTS, "seen"), "10^4": UNSEEN}
    assert words(results(LARGE, SMALL, wider=1.5)) == expected
    assert words(results([20_000.0] * 3, SMALL, wider=1.5))["10^4"] == "seen"


def test_the_opposite_is_not_seen() -> None:
    found = words(results([0.5, 0.5, 0.51], LARGE, grows=(1.2, 1.5, 1.8, 1.6, 0.9), wider=0.7))
    assert found == {**dict.fromkeys(TEXTS, "not seen"), "10^4": UNSEEN}


def test_what_seeds_do_not_agree_on_is_not_visible() -> None:
    found = words(results([0.8, 1.5, 2.2], SMALL, wider=1.1))
    assert {found[text] for text in ("grows", "wider", "less", "gap")} == {UNSEEN}
    assert words(results(LARGE, SMALL, grows=(1.01, 1.5, 1.8, 2.1, 2.7)))["grows, fresh"] == UNSEEN, "a hundredth"
    assert words(results(LARGE, [3.0, 3.0, 3.01]))["gap"] == UNSEEN, "less than 1.5 times"


def test_a_seed_that_diverged_is_done_and_of_no_other_width() -> None:
    found = results([4.0, None, 4.0], SMALL)
    assert words(found)["less"] == UNSEEN
    assert "1 of 3 and 0 of 3 diverged" in STUDY.report(Setting(), found).claims[TEXTS.index("less")].verdict.why
    assert words(results(LARGE, SMALL)[:-1])["less"] == "not run yet"
    assert words([]) == dict.fromkeys(TEXTS, "not run yet")


def test_the_table_has_every_model_before_and_after_training() -> None:
    report = STUDY.report(Setting(), results(LARGE, SMALL))
    rows = {row[0]: row[1:] for row in report.tables[0].rows}
    assert len(rows) == 5 + 2 * 2
    assert rows["huge, at initialisation"] == [2.7, 2.7, 1.0, 1.0]
    assert rows["width 64, trained"][0] == Mean(pytest.approx(4.0), pytest.approx(0.1), 3)
    assert rows["width 64, before training"][0].mean == pytest.approx(1.1)
    assert [picture.name for picture in report.pictures] == ["trained", "initialisation"]


def test_both_norms_are_trained_with_one_patch_merging_and_looked_at_on_images_of_all_classes(tmp_path: Path) -> None:
    cells = [cell for cell in STUDY.cells(Setting()) if cell.changes is not None]
    made = recipes(STUDY, Setting(), {cell.name: cell for cell in cells})
    assert len(made) == 2 * 2 * 3
    configs = [fresh_config(recipe.completed(), num_classes=10) for recipe in made.values()]
    assert {config.merge_norm for config in configs} == {"after"}
    assert {config.norm_placement for config in configs} == {"pre", "res_post"}

    recipe = next(iter(made.values()))
    (tmp_path / "config.yaml").write_text(dump_recipe(recipe))
    model = create_model("swinv2_nano", image_size=16, window_size=4, num_classes=10, in_channels=1)
    model.info = replace(model.info, preprocessing=Preprocessing(size=(16, 16), mean=(0.3,), std=(0.4,)))
    x = _validation(model, tmp_path)
    assert x.shape == (IMAGES, 1, 16, 16)
    assert len({image.sum().item() for image in x}) == IMAGES


def test_somebodys_weights_have_a_row_for_each_stage() -> None:
    found = [Done(Cell(factors={"state": "weights"}), {"amplitudes": [[1.0, 2.0], [4.0, 1.0]], "input": [32, 48]})]
    report = STUDY.report(Setting(subject=Subject(weights="x")), found)
    assert report.tables[0].rows == [["1", 2, 1.0, 2.0, 2.0], ["2", 2, 4.0, 1.0, 0.25]]
    assert report.notes == ["Largest over smallest of all blocks: 4.0, at 32 x 48 pixels."]
    assert report.claims == ()

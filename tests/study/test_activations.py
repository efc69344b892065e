from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from swinv2.config import SwinConfig
from swinv2.model import SwinBackbone, SwinTransformer, create_model
from swinv2.study.activations import STUDY, WIDTHS, amplitudes, extremes, growth
from swinv2.study.base import Cell, Done, Setting, Subject

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


def done(state: str, norm: str, size: object, stage: list[float], before: list[float] | None = None) -> Done:
    factors = {"state": state, "norm": norm, "size": size, **({"seed": 0} if state == "trained" else {})}
    figures = {"amplitudes": [[1.0], stage], **({"before": [[1.0], before]} if before else {})}
    return Done(Cell(factors=factors), figures)


def results(pre: float, res_post: float, rising: bool = True) -> list[Done]:
    grows = [1.2, 1.5, 1.8, 2.1, 2.7] if rising else [1.2, 1.5, 1.8, 1.7, 2.7]
    fresh = zip(("tiny", "small", "base", "large", "huge"), grows, strict=True)
    return [
        *(
            each
            for size, ratio in fresh
            for each in (done("init", "pre", size, [1, ratio]), done("init", "res_post", size, [1, 1]))
        ),
        *(done("trained", "pre", width, [1.0, pre], [1.0, 1.1]) for width in WIDTHS["laptop"]),
        *(done("trained", "res_post", width, [1.0, res_post], [1.0, 1.0]) for width in WIDTHS["laptop"]),
    ]


def test_the_claims_follow_from_the_figures() -> None:
    def words(found: list[Done]) -> list[str]:
        return [claim.verdict.word for claim in STUDY.report(Setting(), found).claims]

    assert words(results(pre=4.0, res_post=1.5)) == ["seen", "seen", "seen", "not visible at this scale"]
    assert words(results(pre=0.9, res_post=1.5)) == ["not seen", "seen", "not seen", "not visible at this scale"]
    assert words(results(pre=4.0, res_post=1.5, rising=False))[1] == "not seen"
    assert words(results(pre=4.0, res_post=1.5)[:-1])[2] == "not run yet"
    assert words([]) == ["not run yet"] * 3 + ["not visible at this scale"]


def test_the_table_has_every_model_before_and_after_training() -> None:
    report = STUDY.report(Setting(), results(pre=4.0, res_post=1.5))
    rows = {row[0]: row[1:] for row in report.tables[0].rows}
    assert len(rows) == 5 + 2 * 3
    assert rows["huge, at initialisation"] == [2.7, 2.7, 1.0, 1.0]
    assert rows["width 96, trained"][0].mean == 4.0
    assert rows["width 96, before training"][0].mean == 1.1
    assert [picture.name for picture in report.pictures] == ["trained", "initialisation"]


def test_somebodys_weights_have_a_row_for_each_stage() -> None:
    found = [Done(Cell(factors={"state": "weights"}), {"amplitudes": [[1.0, 2.0], [4.0, 1.0]], "input": [32, 48]})]
    report = STUDY.report(Setting(subject=Subject(weights="x")), found)
    assert report.tables[0].rows == [["1", 2, 1.0, 2.0, 2.0], ["2", 2, 4.0, 1.0, 0.25]]
    assert report.notes == ["Largest over smallest of all blocks: 4.0, at 32 x 48 pixels."]
    assert report.claims == ()

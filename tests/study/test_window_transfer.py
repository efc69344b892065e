from __future__ import annotations

from collections.abc import Mapping

import pytest

from swinv2.study.base import Done, Setting, find_study
from swinv2.study.window_transfer import KINDS, RATIOS, STUDY, reach


def test_coordinates_reach_as_far_as_the_paper_says() -> None:
    found = reach(8, 16)
    assert found["linear CPB"] == pytest.approx(8 / 7)
    assert found["log CPB, paper's eq. 4"] == pytest.approx(1 / 3)
    assert found["log CPB, released code"] == pytest.approx(0.33, abs=0.02)


def results(top1: Mapping[str, float], tuned: Mapping[str, float], images: int = 10**6) -> list[Done]:
    """Accuracies of all kinds from 2x on, and tuned; at the trained window all have 0.6."""
    setting = Setting()
    found = []
    for cell in STUDY.cells(setting):
        kind = str(cell.factors["bias"])
        noise = 0.001 * int(cell.factors["seed"])
        if cell.start is not None:
            figures = {"top1": tuned[kind] + noise}
        else:
            at = {f"{ratio:g}": (0.6 if ratio < 2 else top1[kind]) + noise for ratio in RATIOS}
            figures = {"top1": 0.6 + noise, "at": at, "beyond": top1[kind] + noise}
        found.append(Done(cell, {**figures, "images": images, "classes": 10}))
    return found


def words(found: list[Done]) -> list[str]:
    return [claim.verdict.word for claim in STUDY.report(Setting(), found).claims]


def test_the_claims_follow_from_the_figures() -> None:
    paper = dict(zip(KINDS, (0.4, 0.5, 0.55), strict=True))
    tuned = dict(zip(KINDS, (0.6, 0.62, 0.63), strict=True))
    assert words(results(paper, tuned)) == ["seen"] * 6
    reversed_ = dict(zip(KINDS, (0.55, 0.5, 0.4), strict=True))
    assert words(results(reversed_, tuned)) == ["not seen"] * 3 + ["seen"] * 3
    equal = dict.fromkeys(KINDS, 0.5)
    assert words(results(equal, equal))[:4] == ["not visible at this scale"] * 4
    assert words(results(paper, tuned, images=50))[2] == "not visible at this scale"
    assert words(results(paper, tuned)[:-1]) == ["seen"] * 3 + ["not run yet"] + ["seen"] * 2


def test_the_table_has_means_over_seeds_and_the_picture_every_kind() -> None:
    paper, tuned = dict(zip(KINDS, (0.4, 0.5, 0.55), strict=True)), dict.fromkeys(KINDS, 0.61)
    report = STUDY.report(Setting(), results(paper, tuned))
    rows = {row[0]: row[1:] for row in report.tables[0].rows}
    assert rows["log CPB"][2].mean == pytest.approx(0.551)
    assert rows["log CPB"][2].seeds == 3
    assert rows["parameterised"][5].mean == pytest.approx(0.611)
    axes = report.pictures[0].figure.axes[0]
    assert {text.get_text() for text in axes.get_legend().get_texts()} >= set(KINDS.values())
    assert axes.get_ylabel() == "top-1, %"


def test_a_report_of_nothing_yet_can_be_written() -> None:
    for name in ("window-transfer", "norm-and-attention", "stability", "activations", "bias-maps", "memory"):
        report = find_study(name).report(Setting(), [])
        assert {claim.verdict.word for claim in report.claims} <= {"not run yet", "not visible at this scale", "seen"}

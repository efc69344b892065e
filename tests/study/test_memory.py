from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from swinv2.checkpoint import save
from swinv2.model import create_model
from swinv2.preprocessing import Preprocessing
from swinv2.study.base import Cell, Done, Setting, Subject
from swinv2.study.memory import ALONE, STUDY, WAYS

GB = 10**9


def figures(total: Mapping[str, float], **others: Any) -> dict[str, Any]:
    """Figures in GB, of which only those that matter are given."""

    def of(way: str) -> dict[str, Any]:
        size = int(total.get(way, 100) * GB)
        parts = {
            **dict.fromkeys(("gradients", "optimiser", "gathered", "activations", "workspace"), 0),
            "weights": size,
        }
        return {"parts": parts, "total": size, "states": 48 * GB, "flops": 10**12, "devices": 8}

    described = {"model": "m", "image": [64, 64], "window": 8, "batch": 1, "precision": "fp32", "device": "cpu"}
    return {**described, "planned": {way: of(way) for way in WAYS}, **others}


def small(seconds: dict[str, float], spread: float = 0.02) -> dict[str, Any]:
    sizes = {"none": 2 * GB, **dict.fromkeys(ALONE[1:], GB)}
    every = {way: seconds.get(way, 1.0) for way in ALONE}
    timed = {"step_seconds": every, "spread": dict.fromkeys(ALONE, spread), "rounds": 7}
    total = {way: 50 for way in WAYS if way != "none"}
    return figures(total, alone=sizes, measured=sizes, **timed)


def words(one: dict[str, Any] | None, large: dict[str, Any] | None) -> list[str]:
    pairs = {"measured": one, "largest": large}
    found = [Done(Cell(factors={"what": what}), each) for what, each in pairs.items() if each]
    return [claim.verdict.word for claim in STUDY.report(Setting(), found).claims]


UNSEEN = "not visible at this scale"
FITS = {**dict.fromkeys(WAYS, 90.0), "none": 130.0, "all, with ZeRO 1": 37.0}


def test_the_claims_follow_from_the_figures() -> None:
    fits = figures(FITS)
    assert words(small({"checkpointing": 1.25}), fits) == ["seen"] * 10
    assert words(None, None) == ["not run yet"] * 10
    too_much = figures({**FITS, "all, with ZeRO 1": 41.0})
    assert words(small({}), too_much)[0] == "not seen"
    assert words(small({"checkpointing": 1.5, "sequential attention": 1.3}), fits)[2:4] == ["not seen", "not seen"]
    assert words(small({"checkpointing": 1.31}, spread=0.1), fits)[2] == UNSEEN


def test_each_technique_is_judged_for_each_model_by_itself() -> None:
    found = words(small({}), replace_total(figures(FITS), "checkpointing", 133.0))
    assert found[4:] == ["seen", "seen", "not seen", "seen", "seen", "seen"]
    found = words(replace_total(small({}), "ZeRO 1", 99.0), figures(FITS))
    assert found[4:] == ["seen"] * 5 + [UNSEEN], "a hundredth"
    one = small({})
    same = {**one, "measured": {**one["measured"], "sequential attention": 2 * GB}}
    assert words(same, figures(FITS))[5] == UNSEEN
    claim = STUDY.report(Setting(), [Done(Cell(factors={"what": "measured"}), same)]).claims[5]
    assert claim.verdict.why == "planned 50% of none, measured 100% of none: plan and measurement differ."
    higher = {**one, "measured": {**one["measured"], "sequential attention": 2.1 * GB}}
    assert words(higher, figures(FITS))[5] == "not seen"


def replace_total(found: dict[str, Any], way: str, size: float) -> dict[str, Any]:
    planned = {**found["planned"], way: {**found["planned"][way], "total": int(size * GB)}}
    return {**found, "planned": planned}


def test_what_did_not_fit_is_not_measured_and_says_so() -> None:
    unmeasured = {
        key: value for key, value in small({}).items() if key not in ("measured", "step_seconds", "spread", "rounds")
    }
    found = [Done(Cell(factors={"what": "measured"}), {**unmeasured, "unmeasured": "Not measured: 90 GB are planned."})]
    report = STUDY.report(Setting(), found)
    assert report.notes[-1] == "Not measured: 90 GB are planned."
    assert [table.name for table in report.tables] == ["measured-planned"]
    assert report.claims[2].verdict.word == "not visible at this scale"


@pytest.mark.slow
def test_anybodys_weights_are_planned_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swinv2.study.memory.ROUNDS", 3)
    monkeypatch.setattr("swinv2.study.memory.SECONDS", 1.0)
    model = create_model("swinv2_nano", image_size=32, window_size=8, num_classes=2, depths=[1, 1], num_heads=[1, 2])
    preprocessing = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    save(model, tmp_path / "mine.safetensors", classes=("a", "b"), preprocessing=preprocessing)
    setting = Setting(subject=Subject(weights=str(tmp_path / "mine.safetensors"), image_size=(64, 96)))
    cell = STUDY.cells(setting)[0]
    found = STUDY.measure(cell, setting, None)
    assert found["image"] == [64, 96]
    for way in ALONE:
        assert found["alone"][way] == pytest.approx(found["measured"][way], rel=0.1)
    assert found["planned"]["ZeRO 1"]["states"] < found["planned"]["none"]["states"]
    report = STUDY.report(setting, [Done(cell, found)])
    assert [table.name for table in report.tables] == ["weights", "weights-planned"]
    assert report.claims == []

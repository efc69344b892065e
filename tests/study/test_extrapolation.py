from __future__ import annotations

import pytest

from swinv2.study.extrapolation import reach


def test_coordinates_reach_as_far_as_the_paper_says() -> None:
    found = reach(8, 16)
    assert found["linear CPB"] == pytest.approx(8 / 7)
    assert found["log CPB, paper's eq. 4"] == pytest.approx(1 / 3)
    assert found["log CPB, released code"] == pytest.approx(0.33, abs=0.02)

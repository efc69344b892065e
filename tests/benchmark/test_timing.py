import time

import pytest
import torch

from swinv2.benchmark import timing
from swinv2.benchmark.timing import interleave, median_seconds, one_line, summarise

CPU = torch.device("cpu")


def test_medians_leave_out_disturbed_rounds() -> None:
    times = {"a": [1.0, 9.0, 3.0, 2.0], "b": [10.0, 90.0, 30.0, 20.0]}
    done = summarise(times, [0.100, 0.120, 0.100, 0.114], {})  # all below 1.15 x the median 0.107
    assert done.seconds == {"a": 2.5, "b": 25.0}
    assert (done.rounds, done.disturbed) == (4, 0)
    done = summarise(times, [0.100, 0.125, 0.100, 0.114], {})
    assert (done.rounds, done.disturbed) == (4, 1)
    assert done.seconds == {"a": 2.0, "b": 20.0}
    assert done.spread["a"] == pytest.approx(0.5)  # quartiles 1.5 and 2.5 of 1, 2, 3


def test_a_slow_probe_drops_its_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second round's probe is slow, and its measurements with it."""
    probes = iter([0.0, 1.0, 1.0, 1.0, 1.3, 1.0, 1.0])  # one to warm it, then two a round
    values = iter([1.0, 1.0, 5.0, 7.0, 5.0])  # two to warm it, then one a round

    def measured(run, device, repeats=1) -> float:
        return next(values) if run is work else next(probes)

    def work() -> None:
        pass

    monkeypatch.setattr(timing, "measure", measured)
    done = interleave({"work": work}, CPU, rounds=3)
    assert (done.seconds["work"], done.rounds, done.disturbed) == (5.0, 3, 1)


def test_the_order_rotates() -> None:
    called: list[str] = []

    def contender(name: str):
        def run() -> None:
            called.append(name)
            time.sleep(timing.LEAST_SECONDS)

        return run

    interleave({name: contender(name) for name in "abc"}, CPU, rounds=3)
    assert "".join(called) == "aabbcc" + "abc" + "bca" + "cab"


def test_times_are_those_of_a_clock() -> None:
    done = interleave({"short": lambda: time.sleep(0.002), "long": lambda: time.sleep(0.03)}, CPU, rounds=3)
    assert 0.002 <= done.seconds["short"] < 0.02
    assert 0.03 <= done.seconds["long"] < 0.06
    assert 0.002 <= median_seconds(lambda: time.sleep(0.002), CPU, rounds=2) < 0.02


def test_the_budget_ends_the_rounds_but_not_before_three() -> None:
    def run() -> None:
        time.sleep(0.05)

    assert interleave({"run": run}, CPU, rounds=9, seconds=0.01).rounds == 3
    assert interleave({"run": run}, CPU, rounds=2, seconds=0.01).rounds == 2
    assert 3 < interleave({"run": run}, CPU, rounds=50, seconds=2.0).rounds < 40


def test_what_fails_is_named_and_the_others_go_on() -> None:
    def fail() -> None:
        raise RuntimeError("no compiler\nand a long story")

    done = interleave({"broken": fail, "fine": lambda: None}, CPU, rounds=2)
    assert done.errors == {"broken": "RuntimeError: no compiler"}
    assert set(done.seconds) == {"fine"}
    assert interleave({"broken": fail}, CPU, rounds=2).rounds == 0
    assert len(one_line(ValueError("x" * 500))) == 200

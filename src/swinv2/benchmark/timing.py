"""Times of several functions side by side, measured so that a busy machine shows."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

Function = Callable[[], object]
TOLERANCE = 1.15
"""A round is disturbed if its probe took this many times the median of all probes."""
LEAST_ROUNDS = 3
LEAST_SECONDS = 0.02
"""A shorter function is called several times for one measurement."""
LONG_SECONDS = 5.0
"""A longer function is warm after one call."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median of the rounds that nothing disturbed.

    Args:
        seconds: by name, without what failed.
        spread: distance between the quartiles, over the median.
        rounds: how many were run.
        disturbed: how many of them were dropped.
        errors: one line for each function that failed.
    """

    seconds: dict[str, float]
    spread: dict[str, float]
    rounds: int
    disturbed: int
    errors: dict[str, str] = field(default_factory=dict)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(run: Function, device: torch.device, repeats: int = 1) -> float:
    """Seconds of a call, the mean of ``repeats`` calls in a row."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    synchronise(device)
    return (time.perf_counter() - start) / repeats


def interleave(
    contenders: Mapping[str, Function], device: torch.device, *, rounds: int = 11, seconds: float = math.inf
) -> Timing:
    """Time every function once a round, in an order that rotates, with a fixed matrix product before and after.

    A round whose product took more than 15% over its median is disturbed and left out. Functions are warmed first, by
    two calls, or by one long one; one that raises is left out, and its error is kept.

    Args:
        contenders: functions by name.
        device: where they run.
        rounds: at most so many.
        seconds: no further round begins after so long, warm-up left out, but three rounds are run in any case.
    """
    repeats, errors = _warm(contenders, device)
    square = torch.randn(1024, 1024, device=device)

    def probe() -> float:
        return measure(lambda: square @ square, device, 20 if device.type == "cuda" else 1)

    probe()
    order = list(repeats)
    times: dict[str, list[float]] = {name: [] for name in order}
    probes: list[float] = []
    begin = time.perf_counter()
    while order and _another(len(probes), rounds, time.perf_counter() - begin, seconds):
        before = probe()
        for name in order:
            times[name].append(measure(contenders[name], device, repeats[name]))
        probes.append(max(before, probe()))
        order = order[1:] + order[:1]
    return summarise(times, probes, errors)


def _another(done: int, rounds: int, passed: float, seconds: float) -> bool:
    """Whether to begin another round, which may be expected to take as long as those before."""
    least = min(rounds, LEAST_ROUNDS)
    return done < least or (done < rounds and passed * (done + 1) / done <= seconds)


def _warm(contenders: Mapping[str, Function], device: torch.device) -> tuple[dict[str, int], dict[str, str]]:
    """How many calls each measurement needs, and the errors of what cannot run."""
    repeats, errors = {}, {}
    for name, run in contenders.items():
        try:
            taken = measure(run, device)
            if taken < LONG_SECONDS:
                taken = measure(run, device)
        except Exception as error:  # whatever another library or a compiler raises
            errors[name] = one_line(error)
            continue
        repeats[name] = max(1, math.ceil(LEAST_SECONDS / taken))
    return repeats, errors


def one_line(error: Exception) -> str:
    """An error's type and the first line of its text, 200 characters at most."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def summarise(times: Mapping[str, list[float]], probes: list[float], errors: Mapping[str, str]) -> Timing:
    """Medians over the rounds whose probe was not slow."""
    limit = TOLERANCE * statistics.median(probes) if probes else 0.0
    kept = [index for index, probe in enumerate(probes) if probe <= limit]
    values = {name: [taken[index] for index in kept] for name, taken in times.items()}
    medians = {name: statistics.median(each) for name, each in values.items()}
    spread = {name: _quartile_distance(each) / medians[name] for name, each in values.items()}
    return Timing(medians, spread, len(probes), len(probes) - len(kept), dict(errors))


def _quartile_distance(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def median_seconds(run: Function, device: torch.device, rounds: int = 7, seconds: float = 1.0) -> float:
    """Median seconds of one function alone, after a call to warm it; no round begins once ``seconds`` have passed."""
    taken = max(measure(run, device), 1e-9)
    repeats = max(1, math.ceil(LEAST_SECONDS / taken))
    values: list[float] = []
    begin = time.perf_counter()
    while not values or (len(values) < rounds and time.perf_counter() - begin < seconds):
        values.append(measure(run, device, repeats))
    return statistics.median(values)

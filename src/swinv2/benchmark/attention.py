"""The attention operator alone: time, and what of the machine's bandwidth and arithmetic it reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import torch

from swinv2.benchmark.machine import DTYPES, Ceilings
from swinv2.benchmark.roofline import Work, attention, attention_backward
from swinv2.benchmark.timing import interleave
from swinv2.config import Axes
from swinv2.ops import window_attention

DIRECTIONS = ("forward", "training")


@dataclass(frozen=True)
class Case:
    """One call: images of ``grid`` tokens, with shifted windows.

    Args:
        direction: "forward", without gradients; "training", forward and backward.
    """

    grid: Axes
    window: Axes
    heads: int
    batch: int = 1
    head_dim: int = 32
    dtype: str = "bf16"
    direction: str = "forward"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}, but must be one of {', '.join(DTYPES)}.")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction is {self.direction!r}, but must be one of {', '.join(DIRECTIONS)}.")

    @property
    def work(self) -> Work:
        """What has to be computed and moved (`swinv2.benchmark.roofline`)."""
        shape = (self.grid, self.window, self.heads, self.head_dim, self.batch)
        forward = attention(*shape)
        return forward if self.direction == "forward" else forward + attention_backward(*shape)


@dataclass(frozen=True)
class Result:
    """A backend's median seconds, None with the error where it cannot run, and shares of the ceilings.

    Args:
        bandwidth: ideal bytes over the time, as a share of the measured copy bandwidth.
        flops: operations of the products over the time, as a share of those of a large matrix product in that dtype.
        floor: the time that the ideal work takes at least, as a share of the time.
    """

    case: Case
    backend: str
    seconds: float | None
    bandwidth: float | None = None
    flops: float | None = None
    floor: float | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self.case), **{k: v for k, v in asdict(self).items() if k != "case"}}


def benchmark_attention(
    case: Case,
    backends: Sequence[str],
    ceilings: Ceilings,
    device: torch.device,
    *,
    rounds: int = 11,
    seconds: float = inf,
) -> list[Result]:
    """Time backends on one case, round by round; see `swinv2.benchmark.timing.interleave`."""
    runs: dict[str, Callable[[], object]] = {name: _call(case, name, device) for name in backends}
    timing = interleave(runs, device, rounds=rounds, seconds=seconds)
    return [
        _result(case, name, timing.seconds[name], ceilings)
        if name in timing.seconds
        else Result(case, name, None, error=timing.errors[name])
        for name in backends
    ]


def _result(case: Case, backend: str, seconds: float, ceilings: Ceilings) -> Result:
    work, dtype = case.work, DTYPES[case.dtype]
    return Result(
        case,
        backend,
        seconds,
        bandwidth=work.elements * dtype.itemsize / seconds / ceilings.bandwidth,
        flops=work.flops / seconds / ceilings.flops[case.dtype],
        floor=work.floor(ceilings, case.dtype, dtype.itemsize)[0] / seconds,
    )


def _call(case: Case, backend: str, device: torch.device) -> Callable[[], object]:
    training = case.direction == "training"
    shape = (case.batch, *case.grid, 3, case.heads, case.head_dim)
    qkv = torch.randn(shape, device=device).to(DTYPES[case.dtype]).requires_grad_(training)
    table = (case.heads, *(2 * w - 1 for w in case.window))
    bias = torch.randn(table, device=device).requires_grad_(training)
    scale = torch.full((case.heads,), 10.0, device=device).requires_grad_(training)
    grad = torch.randn_like(qkv.detach().select(-3, 0))
    shift = tuple(w // 2 for w in case.window)

    def forward() -> object:
        with torch.inference_mode():
            return window_attention(qkv, bias, case.window, shift, scale, backend)

    def both() -> object:
        out = window_attention(qkv, bias, case.window, shift, scale, backend)
        return torch.autograd.grad(out, (qkv, bias, scale), grad)

    return both if training else forward

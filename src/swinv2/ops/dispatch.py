"""Which backend runs, and why: pure predicates over what the call looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from swinv2.config import Axes, did_you_mean
from swinv2.ops.reference import reference_attention
from swinv2.ops.sdpa import sdpa_attention

Attention = Callable[[Tensor, Tensor, Axes, Axes, Tensor | None], Tensor]


@dataclass(frozen=True)
class Call:
    """What the choice may depend on."""

    device: str
    dtype: torch.dtype
    window: Axes
    head_dim: int
    needs_grad: bool


@dataclass(frozen=True)
class Backend:
    """An implementation, why it refuses a call (None: it runs), and what it is good for."""

    run: Attention
    refuses: Callable[[Call], str | None]
    purpose: str


def _never(call: Call) -> str | None:
    return None


# In order of preference: "auto" takes the first that does not refuse.
BACKENDS: dict[str, Backend] = {
    "sdpa": Backend(sdpa_attention, _never, "PyTorch's scaled_dot_product_attention, on every device"),
    "reference": Backend(reference_attention, _never, "the slow fp32 oracle that the others are tested against"),
}


def choose(call: Call, backend: str = "auto") -> str:
    """Name of the backend that runs ``call``.

    Raises:
        ValueError: ``backend`` is unknown, or was asked for by name and cannot run this call.
    """
    if backend == "auto":
        return next(name for name, candidate in BACKENDS.items() if candidate.refuses(call) is None)
    if backend not in BACKENDS:
        raise ValueError(
            f"There is no attention backend {backend!r}{did_you_mean(backend, BACKENDS)}: "
            f"use 'auto' or one of {', '.join(map(repr, BACKENDS))}."
        )
    reason = BACKENDS[backend].refuses(call)
    if reason is not None:
        raise ValueError(f"Attention backend {backend!r} cannot run here: {reason}; use 'auto'.")
    return backend


def explain(call: Call) -> str:
    """What "auto" picks for a call, and what it thinks of each backend, one line each."""
    picked = choose(call)
    lines = []
    for name, candidate in BACKENDS.items():
        reason = candidate.refuses(call)
        verdict = "picked" if name == picked else f"cannot run: {reason}" if reason else "could run, but is not preferred"
        lines.append(f"{name}: {verdict} ({candidate.purpose})")
    return "\n".join(lines)

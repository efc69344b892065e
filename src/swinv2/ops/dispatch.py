"""Which backend runs, and why: pure predicates over what the call looks like."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf

import torch
from torch import Tensor

from swinv2.config import Axes, did_you_mean
from swinv2.ops.padded import padded_attention
from swinv2.ops.reference import reference_attention
from swinv2.ops.sdpa import sdpa_attention
from swinv2.ops.sequential import sequential_attention
from swinv2.ops.sequential import workspace as sequential_workspace
from swinv2.ops.triton.tiles import AXES, Problem, largest_head_dim

Attention = Callable[[Tensor, Tensor, Axes, Axes, Tensor | None], Tensor]


@dataclass(frozen=True)
class Call:
    """What the choice may depend on."""

    device: str
    dtype: torch.dtype
    window: Axes
    head_dim: int
    compiling: bool = False
    exporting: bool = False
    capability: tuple[int, int] | None = None
    """Compute capability of the device; None where it is not known."""
    shape: tuple[int, ...] = ()
    """Shape of qkv, for the workspace."""
    budget: int = 0
    """Bytes that the attention may take beside its inputs and results; 0 where nobody set them."""


@dataclass(frozen=True)
class Backend:
    """An implementation, and why it cannot run a call (None: it can)."""

    run: Attention
    refuses: Callable[[Call], str | None] = lambda call: None
    workspace: Callable[[Call], int] | None = None
    """Most bytes that forward or backward take beside inputs, results and gradients. None for those made of PyTorch's
    operators, which a trace on fake tensors sees.
    """


@dataclass(frozen=True)
class Rule:
    """What "auto" prefers for some calls, and why."""

    applies: Callable[[Call], bool]
    backend: str
    reason: str


def _sequential_refuses(call: Call) -> str | None:
    return "it is an operator of our own, which an exported graph may not hold" if call.exporting else None


def _triton_attention(qkv: Tensor, bias: Tensor, window: Axes, shift: Axes, logit_scale: Tensor | None) -> Tensor:
    from swinv2.ops.triton.operator import triton_attention  # needs triton, which PyTorch brings for CUDA only

    return triton_attention(qkv, bias, window, shift, logit_scale)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _triton_interprets() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _triton_refuses(call: Call) -> str | None:
    if call.exporting:
        return "it is an operator of our own, which an exported graph may not hold"
    if call.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it computes in fp32, bf16 and fp16, and qkv is {call.dtype}"
    largest = largest_head_dim(call.dtype)
    if call.head_dim > largest:
        return f"its tiles hold a head_dim of {largest} at most in {call.dtype}, not {call.head_dim}"
    if len(call.window) > AXES:
        return f"it handles {AXES} axes at most, and the window has {len(call.window)}"
    if not _has_triton():
        return "the package triton is not installed"
    if _triton_interprets():
        return None if call.device in ("cpu", "cuda") else f"qkv is on {call.device}"
    if call.device != "cuda" or torch.version.hip is not None:
        return f"it needs an NVIDIA GPU, and qkv is on {call.device if torch.version.hip is None else 'another GPU'}"
    if call.capability is not None and call.capability < (8, 0):
        return f"it needs compute capability 8.0 or newer, and this GPU has {'.'.join(map(str, call.capability))}"
    return None


def _triton_workspace(call: Call) -> int:
    return Problem.of(call.shape, call.dtype, call.window, (0,) * len(call.window)).workspace


def _sequential_workspace(call: Call) -> int:
    return sequential_workspace(call.shape, call.dtype, call.window, call.device, call.budget)


BACKENDS: dict[str, Backend] = {
    "triton": Backend(_triton_attention, _triton_refuses, _triton_workspace),
    "sdpa": Backend(sdpa_attention),
    "sequential": Backend(sequential_attention, _sequential_refuses, _sequential_workspace),
    "padded": Backend(padded_attention),
    "reference": Backend(reference_attention),
}

# The first rule that applies, and whose backend can run, decides.
RULES = (
    Rule(lambda call: call.exporting, "padded", "an exported graph holds standard operators and serves every size"),
    Rule(lambda call: call.budget > 0, "sequential", "a budget of memory was set, and it keeps to one"),
    Rule(lambda call: call.compiling, "sequential", "it is one node for torch.compile, whatever the shape"),
    Rule(
        lambda call: call.device == "cpu",
        "sequential",
        "its chunks stay in the CPU's caches and need less memory, and it has a fast backward pass",
    ),
    Rule(lambda call: True, "sdpa", "PyTorch's scaled_dot_product_attention runs everywhere"),
)


def choose(call: Call, backend: str = "auto") -> str:
    """Name of the backend that runs ``call``.

    Raises:
        ValueError: ``backend`` is unknown, or was asked for by name and cannot run this call.
    """
    check_backend(backend, call.budget)
    if backend == "auto":
        return _decide(call).backend
    reason = BACKENDS[backend].refuses(call)
    if reason is not None:
        raise ValueError(f"Attention backend {backend!r} cannot run here: {reason}; use 'auto'.")
    return backend


def check_backend(backend: str, budget: int = 0) -> None:
    """Refuse what cannot run anywhere.

    Raises:
        ValueError: there is no such backend, or it keeps to no budget of memory.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(
            f"There is no attention backend {backend!r}{did_you_mean(backend, BACKENDS)}: "
            f"use 'auto' or one of {', '.join(map(repr, BACKENDS))}."
        )
    if budget and backend not in ("auto", "sequential"):
        raise ValueError(f"Attention backend {backend!r} keeps to no budget of memory: use 'sequential', or set none.")


def budget_bytes(budget_mb: float | None) -> int:
    """A budget in MiB as bytes, 0 for None.

    Raises:
        ValueError: it is not a positive number.
    """
    if budget_mb is None:
        return 0
    if isinstance(budget_mb, bool) or not isinstance(budget_mb, int | float) or not 0 < budget_mb < inf:
        raise ValueError(f"budget_mb is {budget_mb!r}, but must be a positive number of MiB, or None.")
    return max(1, int(budget_mb * 2**20))


def explain(call: Call) -> str:
    """What "auto" picks for a call and why, and what each other backend could do, one line each."""
    rule = _decide(call)
    lines = [f"{rule.backend}: picked, because {rule.reason}"]
    for name, backend in BACKENDS.items():
        if name != rule.backend:
            lines.append(f"{name}: {backend.refuses(call) or 'could run if asked for by name'}")
    return "\n".join(lines)


def _decide(call: Call) -> Rule:
    for rule in RULES:
        if rule.applies(call) and BACKENDS[rule.backend].refuses(call) is None:
            return rule
    raise AssertionError("the last rule applies to every call")

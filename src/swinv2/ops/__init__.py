"""Shifted-window attention as one operator with several backends."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from swinv2.config import Axes
from swinv2.ops.dispatch import BACKENDS, Call, budget_bytes, choose
from swinv2.ops.dispatch import explain as explain_call
from swinv2.ops.sequential import sequential_attention
from swinv2.precision import without_autocast

__all__ = ["explain", "window_attention"]


def window_attention(
    qkv: Tensor,
    bias: Tensor,
    window: Axes,
    shift: Axes,
    logit_scale: Tensor | None = None,
    backend: str = "auto",
    budget_mb: float | None = None,
) -> Tensor:
    """Attention within shifted windows of a map (paper, section 3.1 to 3.3), for any number of axes.

    Args:
        qkv: the projection's output, ``[B, *grid, 3, heads, head_dim]``; fp32, bf16, fp16 or fp64.
        bias: relative position bias, fp32 ``[heads, *(2w-1)]``, indexed by query minus key plus ``w - 1``.
        window: tokens of a window on each axis; a window that exceeds the map runs as the map, unshifted.
        shift: tokens by which the windows are shifted on each axis, below the window.
        logit_scale: fp32 ``[heads]``, the factor of the cosine between query and key; None: dot product times
            ``head_dim ** -0.5``.
        backend: a name in ``BACKENDS``, or "auto" for the first that can run (`explain` says which and why).
        budget_mb: MiB that a pass of "sequential" may take beside its inputs and results. It takes more where one row
            of one head's queries in one window needs more, and where the gradients of keys are sums over pieces
            (windows above some 40 x 40), which it then holds in fp32. None: what suits the device.

    Returns:
        ``[B, *grid, heads, head_dim]`` in the dtype of ``qkv``. Padding is never seen; a query without a key gives 0.

    Raises:
        ValueError: shapes that do not fit, a backend that cannot run, or a budget for one that keeps to none.
    """
    _check(qkv, bias, window, shift, logit_scale)
    if qkv.numel() == 0:  # every input still takes part in the graph, as DDP demands
        unused = bias.sum() if logit_scale is None else bias.sum() + logit_scale.sum()
        return qkv.select(-3, 2) + 0 * unused.to(qkv.dtype)
    call = _call(qkv, window, budget_mb)
    name = choose(call, backend)
    # Which precision serves what is the backend's decision. An exported graph holds operators only, no such context.
    with nullcontext() if call.exporting else without_autocast(qkv.device):
        if call.budget:
            return sequential_attention(qkv, bias, window, shift, logit_scale, call.budget)
        return BACKENDS[name].run(qkv, bias, window, shift, logit_scale)


def explain(qkv: Tensor, bias: Tensor, window: Axes, budget_mb: float | None = None) -> str:
    """Which backend "auto" picks for such a call, and why not the others, one line each."""
    return explain_call(_call(qkv, window, budget_mb))


def _call(qkv: Tensor, window: Axes, budget_mb: float | None) -> Call:
    return Call(
        device=qkv.device.type,
        dtype=qkv.dtype,
        window=window,
        head_dim=qkv.shape[-1],
        compiling=torch.compiler.is_compiling(),
        exporting=torch.compiler.is_exporting(),
        capability=_capability(qkv.device),
        shape=tuple(qkv.shape),
        budget=budget_bytes(budget_mb),
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _capability(device: torch.device) -> tuple[int, int] | None:
    if device.type != "cuda" or not torch.cuda.is_available():  # fake tensors may be on a device that is not here
        return None
    return torch.cuda.get_device_capability(device)


def _check(qkv: Tensor, bias: Tensor, window: Axes, shift: Axes, logit_scale: Tensor | None) -> None:
    if qkv.ndim != len(window) + 4 or qkv.shape[-3] != 3:
        needed = "[B, *grid, 3, heads, head_dim]"
        raise ValueError(f"qkv has shape {tuple(qkv.shape)}, but a window of {len(window)} axes needs {needed}.")
    if not qkv.is_floating_point():
        raise ValueError(f"qkv is {qkv.dtype}, but must be floating point.")
    if len(shift) != len(window) or not all(0 <= s < w for s, w in zip(shift, window, strict=False)):
        raise ValueError(f"shift {tuple(shift)} must be at least 0 and below window {tuple(window)} on every axis.")
    table = (qkv.shape[-2], *(2 * w - 1 for w in window))
    if tuple(bias.shape) != table:
        raise ValueError(f"bias has shape {tuple(bias.shape)}, but window {tuple(window)} needs a table of {table}.")
    if logit_scale is not None and tuple(logit_scale.shape) != table[:1]:
        raise ValueError(f"logit_scale has shape {tuple(logit_scale.shape)}, but {table[0]} heads need {table[:1]}.")
    for name, tensor in (("bias", bias), ("logit_scale", logit_scale)):
        if tensor is not None and tensor.device != qkv.device:
            raise ValueError(f"{name} is on {tensor.device}, but qkv is on {qkv.device}: move it there.")

"""The kernels as operators of PyTorch: one node each for autograd, torch.compile and checkpointing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from swinv2.config import Axes
from swinv2.ops.triton.launch import Inputs, run_backward, run_forward
from swinv2.ops.triton.tiles import Problem
from swinv2.precision import without_autocast


def triton_attention(qkv: Tensor, bias: Tensor, window: Axes, shift: Axes, logit_scale: Tensor | None) -> Tensor:
    """See `swinv2.ops.window_attention`."""
    out, _ = _forward(qkv, bias, list(window), list(shift), logit_scale)
    return out


def forward(
    qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention ``[B, *grid, heads, head_dim]``, and the log-sum-exp in base 2, fp32 ``[heads, B, *grid]``."""
    inputs = _inputs(qkv, bias, window, shift, logit_scale)
    out, lse = _new_outputs(qkv)
    run_forward(inputs, out, lse)
    return out, lse


def backward(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor,
    window: list[int],
    shift: list[int],
    logit_scale: Tensor | None,
    out: Tensor,
    lse: Tensor,
    bias_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, of the bias table (zeros unless ``bias_grad``) and of the logit scale, both fp32."""
    inputs = _inputs(qkv, bias, window, shift, logit_scale)
    grad_qkv, grad_table = torch.empty_like(inputs.qkv), torch.zeros_like(inputs.table)
    grad_scale = run_backward(inputs, grad.contiguous(), out, lse, grad_qkv, grad_table, bias_grad)
    return grad_qkv, grad_table, grad_scale


def _inputs(qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None) -> Inputs:
    problem = Problem.of(tuple(qkv.shape), qkv.dtype, tuple(window), tuple(shift))
    scale = None if logit_scale is None else logit_scale.float().contiguous()
    return Inputs(problem, qkv.contiguous(), bias.float().contiguous(), scale)


def _new_outputs(qkv: Tensor) -> tuple[Tensor, Tensor]:
    places, (heads, head_dim) = qkv.shape[:-3], qkv.shape[-2:]
    return qkv.new_empty(*places, heads, head_dim), qkv.new_empty(heads, *places, dtype=torch.float32)


_forward = torch.library.custom_op("swinv2::triton_attention", forward, mutates_args=())
_backward = torch.library.custom_op("swinv2::triton_attention_backward", backward, mutates_args=())


@_forward.register_fake
def _(
    qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _new_outputs(qkv)


@_backward.register_fake
def _(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor,
    window: list[int],
    shift: list[int],
    logit_scale: Tensor | None,
    out: Tensor,
    lse: Tensor,
    bias_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float32
    table = bias.new_empty(bias.shape, dtype=wide)
    return qkv.new_empty(qkv.shape), table, qkv.new_empty(qkv.shape[-2], dtype=wide)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, bias, ctx.window, ctx.shift, logit_scale = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(qkv, bias, logit_scale, *output)


def _autograd(ctx: Any, grad: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    qkv, bias, logit_scale, out, lse = ctx.saved_tensors
    if grad is None:
        return None, None, None, None, None
    with without_autocast(grad.device):
        grad_qkv, grad_bias, grad_scale = _backward(
            grad, qkv, bias, ctx.window, ctx.shift, logit_scale, out, lse, ctx.needs_input_grad[1]
        )
    return grad_qkv, grad_bias.to(bias.dtype), None, None, None if logit_scale is None else grad_scale.to(logit_scale)


_forward.register_autograd(_autograd, setup_context=_setup_context)

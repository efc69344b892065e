"""Linear layers as fast as the device has them.

On the CPU, PyTorch's linear first copies the bias into its result and then adds the product to that; oneDNN adds the
bias, and a GELU, while it writes the product. On two cores with AMX this takes 43% off the widest layer of SwinV2-T
in bf16 and 19% in fp32.

A CPU without instructions for half precision multiplies it many times slower than fp32 (19 against 135 GFLOP/s on two
cores with AVX2, 2 in batched products). There the product is computed in fp32, of the half-precision input and the
weight as it is, and rounded once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swinv2.precision import is_emulated, without_autocast

ONEDNN_LONGEST = {torch.float32: 192, torch.bfloat16: 2**31}
"""Features of the input, by dtype, up to which oneDNN is taken. In fp32 it adds up longer rows one by one, with twice
the error of PyTorch's product, which does so in parts; and the longer the row, the less a pass for the bias matters.
"""

WIDE_BYTES = 8 * 2**20
"""What fp32 copies of half-precision rows take at a time."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """``x @ weight.T + bias``, with the exact GELU of it if asked; ``[..., in]`` to ``[..., out]``."""
    dtype = product_dtype(x)
    if is_emulated(x.device.type, dtype) and not torch.compiler.is_exporting():
        return _widened(x.to(dtype), weight, bias, gelu)
    if onednn_serves(x, weight):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else ""
        )
        return out
    out = F.linear(x, weight, bias)
    return F.gelu(out) if gelu else out


def product_dtype(x: Tensor) -> torch.dtype:
    """Dtype in which PyTorch multiplies ``x``: autocast's, where it is on."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def onednn_serves(x: Tensor, weight: Tensor) -> bool:
    """Whether a call has plain CPU tensors, no gradients, tracing or autocast, and a dtype and length for oneDNN."""
    return bool(
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and type(x) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and x.dtype == weight.dtype
        and x.shape[-1] <= ONEDNN_LONGEST.get(x.dtype, 0)
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and (x.dtype is torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _widened(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """The layer in fp32, its result in the dtype of ``x``, of which alone the backward pass keeps a copy."""
    with without_autocast(x.device):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            out: Tensor = _Widened.apply(x, weight, bias)
            return F.gelu(out) if gelu else out
        return _in_fp32(x, weight, bias, gelu)


def _in_fp32(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """The layer in fp32, so many rows at a time that what is wide for a moment stays in the cache."""
    weight, bias = weight.to(torch.float32), None if bias is None else bias.to(torch.float32)
    if torch.compiler.is_compiling():
        return linear(x.to(weight.dtype), weight, bias, gelu).to(x.dtype)
    rows = x.flatten(0, -2)
    out = x.new_empty(rows.shape[0], weight.shape[0])
    step = max(1, WIDE_BYTES // (4 * (weight.shape[0] + weight.shape[1])))
    for part, place in zip(rows.split(step), out.split(step), strict=True):
        place.copy_(linear(part.to(weight.dtype), weight, bias, gelu))
    return out.view(*x.shape[:-1], weight.shape[0])


class _Widened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return _in_fp32(x, weight, bias, gelu=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        with without_autocast(x.device):
            grad = grads[0].to(torch.float32).flatten(0, -2)
            wide = weight.to(grad.dtype)
            grad_x = (grad @ wide).to(x.dtype).view(x.shape) if ctx.needs_input_grad[0] else None
            grad_weight = None
            if ctx.needs_input_grad[1]:
                grad_weight = (grad.mT @ x.flatten(0, -2).to(grad.dtype)).to(weight.dtype)
            grad_bias = grad.sum(0).to(ctx.bias_dtype) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias

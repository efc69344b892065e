"""Linear layers as fast as the device has them.

On the CPU, PyTorch's linear first copies the bias into its result and then adds the product to that; oneDNN adds the
bias, and a GELU, while it writes the product. On two cores with AMX this takes 43% off the widest layer of SwinV2-T
in bf16 and 19% in fp32.

A CPU without instructions for half precision multiplies it many times slower than fp32 (19 against 135 GFLOP/s on two
cores with AVX2, 2 in batched products). There the product is computed in fp32, of the half-precision input and the
weight as it is, and rounded once.

In evaluation on a CPU, what is several times as wide as the map (projections, hidden layers) is made for a part of
the rows: it then stays in the cache, and below the 32 MiB above which glibc asks the system for fresh pages on every
allocation. Under torch.compile without gradients, linear layers and MLPs are operators that do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swinv2.geometry import ceil_div
from swinv2.precision import at_least_fp32, is_emulated, without_autocast

ONEDNN_LONGEST = {torch.float32: 192, torch.bfloat16: 2**31}
"""Features of the input, by dtype, up to which oneDNN is taken. In fp32 it adds up longer rows one by one, with twice
the error of PyTorch's product, which does so in parts; and the longer the row, the less a pass for the bias matters.
"""

PART_BYTES = 16 * 2**20
"""What is made at a time; of 2 to 30 MiB none was worse by more than the noise of 3%."""
WIDE_BYTES = 8 * 2**20
"""What fp32 copies of half-precision rows take at a time."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """``x @ weight.T + bias``, with the exact GELU of it if asked; ``[..., in]`` to ``[..., out]``."""
    if _compiles_inference(x, weight):
        opaque: Tensor = _linear_operator(x, weight, bias, gelu)
        return opaque
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


def mlp(x: Tensor, weights: tuple[Tensor, Tensor], biases: tuple[Tensor | None, Tensor | None]) -> Tensor:
    """Two layers with an exact GELU between, ``[..., in]`` to ``[..., out]``."""
    if _compiles_inference(x, weights[0]):
        opaque: Tensor = _mlp_operator(x, weights[0], biases[0], weights[1], biases[1])
        return opaque

    def layers(rows: Tensor) -> Tensor:
        return linear(linear(rows, weights[0], biases[0], gelu=True), weights[1], biases[1])

    if not memory_is_free():
        return layers(x)
    return in_parts(layers, x.flatten(0, -2), weights[0].shape[0]).unflatten(0, x.shape[:-1])


def memory_is_free() -> bool:
    """Whether a result may be written over what it was made from: nothing is kept for a backward pass, or traced."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def in_parts(run: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """``run(x)``, which treats every entry of the first axis alone, and makes ``width`` numbers of each for a while."""
    if x.device.type != "cpu" or not memory_is_free():
        return run(x)
    parts = ceil_div(x.shape[0] * width * at_least_fp32(x.dtype).itemsize, PART_BYTES)
    if parts <= 1:
        return run(x)
    return torch.cat([run(part) for part in x.split(ceil_div(x.shape[0], parts))])


def _compiles_inference(x: Tensor, weight: Tensor) -> bool:
    return (
        torch.compiler.is_compiling()
        and not torch.compiler.is_exporting()
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype
        and not torch.is_autocast_enabled("cpu")
    )


@torch.library.custom_op("swinv2::linear", mutates_args=())
def _linear_operator(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    with torch.no_grad():
        return linear(x, weight, bias, gelu)


@_linear_operator.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@torch.library.custom_op("swinv2::mlp", mutates_args=())
def _mlp_operator(
    x: Tensor, first: Tensor, first_bias: Tensor | None, last: Tensor, last_bias: Tensor | None
) -> Tensor:
    with torch.no_grad():
        return mlp(x, (first, last), (first_bias, last_bias))


@_mlp_operator.register_fake
def _(x: Tensor, first: Tensor, bias: Tensor | None, last: Tensor, last_bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], last.shape[0])


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

"""The paper's sequential attention (section 3.5): windows in chunks, so that memory is bounded and scores stay in the
cache.

Nothing of a window's N x N size outlives its chunk: the backward pass computes the scores again. Both passes are custom
operators, so that torch.compile sees one node for any shape.

Shape letters: W windows of a chunk, N tokens of a window, H heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swinv2.config import Axes
from swinv2.geometry import AxisLayout, group_mask, layout, product, window_groups
from swinv2.ops.windows import (
    NORM_EPS,
    expand_bias,
    has_padding,
    normalise,
    reduce_bias,
    take_rows,
    window_indices,
)
from swinv2.precision import at_least_fp32, without_autocast

FORWARD_BYTES = {"cpu": 8 * 2**20}
BACKWARD_BYTES = {"cpu": 4 * 2**20}
"""Size of a chunk's fp32 scores by device: on a CPU, what its caches hold. Of 2 to 32 MiB, 8 was best forward (170
windows of w8 or 10 of w16, 3 heads) and 4 backward, where more is computed beside the scores.
"""
OTHER_BYTES = 256 * 2**20
"""The same elsewhere, where a chunk must be large enough to fill the device; not yet measured."""


def sequential_attention(qkv: Tensor, bias: Tensor, window: Axes, shift: Axes, logit_scale: Tensor | None) -> Tensor:
    """See `swinv2.ops.window_attention`."""
    out: Tensor = _forward(qkv, bias, list(window), list(shift), logit_scale)
    return out


def forward(qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None) -> Tensor:
    """Attention chunk by chunk, ``[B, *grid, heads, head_dim]``."""
    axes = layout(tuple(qkv.shape[1:-3]), tuple(window), tuple(shift))
    tokens, (heads, head_dim) = product(qkv.shape[:-3]), qkv.shape[-2:]
    rows_in = qkv.reshape(tokens, 3 * heads * head_dim)
    rows_out = qkv.new_empty(tokens + 1, heads * head_dim)  # the last row takes what padding computes
    for order, pair_bias in _chunks(axes, qkv, bias, window, FORWARD_BYTES):
        rows = take_rows(rows_in, order, has_padding(axes)).view(-1, pair_bias.shape[-1], 3, heads, head_dim)
        q, k, v = rows.unbind(2)
        if logit_scale is not None:
            q, k = normalise(q, logit_scale), normalise(k)
        q_WHND, k_WHND, v_WHND = (x.transpose(1, 2) for x in (q, k, v))
        mask = pair_bias if qkv.device.type == "cpu" else pair_bias.to(qkv.dtype)
        out_WHND = F.scaled_dot_product_attention(
            q_WHND,
            k_WHND,
            v_WHND,
            attn_mask=mask[None],
            scale=None if logit_scale is None else 1.0,
        )
        place = torch.where(order < 0, tokens, order)
        rows_out.index_copy_(0, place, out_WHND.transpose(1, 2).reshape(order.numel(), -1))
    return rows_out[:tokens].view(*qkv.shape[:-3], heads, head_dim)


def backward(
    grad: Tensor, qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, of the bias table and of the logit scale (zeros without one)."""
    axes = layout(tuple(qkv.shape[1:-3]), tuple(window), tuple(shift))
    tokens, (heads, head_dim) = product(qkv.shape[:-3]), qkv.shape[-2:]
    compute = at_least_fp32(qkv.dtype)
    rows_in, rows_grad = qkv.reshape(tokens, -1), grad.reshape(tokens, -1)
    grad_rows = qkv.new_empty(tokens + 1, rows_in.shape[1])
    n_tokens = product([axis.window for axis in axes])
    grad_pairs = torch.zeros(heads, n_tokens, n_tokens, dtype=compute, device=qkv.device)
    grad_scale = torch.zeros(heads, dtype=compute, device=qkv.device)
    for order, pair_bias in _chunks(axes, qkv, bias, window, BACKWARD_BYTES):
        rows = take_rows(rows_in, order, has_padding(axes)).view(-1, n_tokens, 3, heads, head_dim).to(compute)
        out_grad = take_rows(rows_grad, order, has_padding(axes))
        out_grad_WHND = out_grad.view(-1, n_tokens, heads, head_dim).to(compute).transpose(1, 2).contiguous()
        parts = qkv.new_empty(rows.shape)
        pairs_part, scale_part = _chunk_backward(rows, out_grad_WHND, pair_bias, logit_scale, parts)
        grad_pairs += pairs_part
        grad_scale += scale_part
        grad_rows.index_copy_(0, torch.where(order < 0, tokens, order), parts.view(order.numel(), -1))
    run_window = tuple(axis.window for axis in axes)
    grad_bias = reduce_bias(grad_pairs, tuple(window), run_window).to(bias.dtype)
    return grad_rows[:tokens].view(qkv.shape), grad_bias, grad_scale


def _chunk_backward(
    rows: Tensor, out_grad_WHND: Tensor, pair_bias: Tensor, logit_scale: Tensor | None, parts: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the gradients of a chunk's ``rows`` ``[W, N, 3, H, D]`` to ``parts``; return those of its pairs' bias
    ``[H, N, N]`` and of the logit scale ``[H]``.
    """
    q_WHND, k_WHND, v_WHND = (x.transpose(1, 2).contiguous() for x in rows.unbind(2))
    cosine = logit_scale is not None
    scale: Tensor | float = rows.shape[-1] ** -0.5
    if logit_scale is not None:  # it may have underflowed to 0, and is divided by
        scale = logit_scale.to(rows.dtype).clamp_min(1e-30).view(-1, 1, 1)
    q_inverse, k_inverse = (_inverse_norm(q_WHND), _inverse_norm(k_WHND)) if cosine else (None, None)
    q_WHND *= scale if q_inverse is None else q_inverse * scale
    if k_inverse is not None:
        k_WHND *= k_inverse
    probabilities = (q_WHND @ k_WHND.mT).add_(pair_bias)
    probabilities = torch.softmax(probabilities, -1, out=probabilities)
    parts[:, :, 2] = (probabilities.mT @ out_grad_WHND).transpose(1, 2)
    logits_grad = out_grad_WHND @ v_WHND.mT
    logits_grad -= (logits_grad * probabilities).sum(-1, keepdim=True)
    logits_grad *= probabilities
    q_grad, k_grad = logits_grad @ k_WHND, logits_grad.mT @ q_WHND
    along = _unit_backward(q_grad, q_WHND, q_inverse, scale)
    _unit_backward(k_grad, k_WHND, k_inverse, 1.0)
    parts[:, :, 0], parts[:, :, 1] = q_grad.transpose(1, 2), k_grad.transpose(1, 2)
    return logits_grad.sum(0), along.sum((0, 2, 3)) / (scale.flatten() if isinstance(scale, Tensor) else scale)


def _inverse_norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(NORM_EPS).reciprocal_()


def _unit_backward(grad: Tensor, y: Tensor, inverse: Tensor | None, scale: Tensor | float) -> Tensor:
    """Turn the gradient of ``y = scale * x * inverse`` into that of x, in place; return ``grad . y`` per vector.

    ``inverse`` is 1 / max(|x|, eps), None for no normalisation. The part of the gradient along x vanishes, unless x is
    shorter than eps.
    """
    along = torch.linalg.vecdot(grad, y).unsqueeze(-1)
    if inverse is None:
        grad *= scale
        return along
    unit_share = along * (inverse < 1.0 / NORM_EPS)
    grad *= scale * inverse
    grad.addcmul_(y, unit_share * inverse / scale, value=-1.0)
    return along


def _chunks(
    axes: tuple[AxisLayout, ...], qkv: Tensor, bias: Tensor, window: list[int], budget: Mapping[str, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens of each chunk's places (-1 for padding), ``[W * N]``, and the biases of its pairs, -inf where masked."""
    compute = at_least_fp32(qkv.dtype)
    run_window = tuple(axis.window for axis in axes)
    n_tokens = product(run_window)
    pair_bias = expand_bias(bias.to(compute), tuple(window), run_window)
    order, _ = window_indices(axes, qkv.shape[0], qkv)
    scores = budget.get(qkv.device.type, OTHER_BYTES)
    step = max(1, scores // (4 * pair_bias.numel())) * n_tokens
    groups = list(window_groups(axes))
    for group, places in zip(groups, order.split([qkv.shape[0] * g.windows * n_tokens for g in groups]), strict=True):
        mask = group_mask(axes, group, qkv.device)
        masked = pair_bias if mask is None else pair_bias.masked_fill(~mask, -torch.inf)
        for chunk in places.split(step):
            yield chunk, masked


_forward = torch.library.custom_op("swinv2::sequential_attention", forward, mutates_args=())
_backward = torch.library.custom_op("swinv2::sequential_attention_backward", backward, mutates_args=())


@_forward.register_fake
def _(qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None) -> Tensor:
    return qkv.new_empty(*qkv.shape[:-3], *qkv.shape[-2:])


@_backward.register_fake
def _(
    grad: Tensor, qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    scale = at_least_fp32(qkv.dtype)
    return qkv.new_empty(qkv.shape), bias.new_empty(bias.shape), qkv.new_empty(qkv.shape[-2], dtype=scale)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, bias, ctx.window, ctx.shift, logit_scale = inputs
    ctx.save_for_backward(qkv, bias, logit_scale)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    qkv, bias, logit_scale = ctx.saved_tensors
    with without_autocast(grad.device):
        grad_qkv, grad_bias, grad_scale = _backward(grad, qkv, bias, ctx.window, ctx.shift, logit_scale)
    return grad_qkv, grad_bias, None, None, None if logit_scale is None else grad_scale.to(logit_scale.dtype)


_forward.register_autograd(_autograd, setup_context=_setup_context)

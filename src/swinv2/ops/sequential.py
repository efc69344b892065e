"""The paper's sequential attention (section 3.5): a piece of the attention at a time, so that memory is bounded and
scores stay in the cache.

Nothing of a window's N x N size outlives its piece: the backward pass computes the scores again. Both passes are custom
operators, so that torch.compile sees one node for any shape.

Shape letters: W windows of a piece, N tokens of a window, Q of them as queries, H heads of a piece, D head_dim.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swinv2.config import Axes
from swinv2.geometry import layout, product
from swinv2.ops.chunks import Cut, Job, blocks, pieces
from swinv2.ops.windows import NORM_EPS, has_padding, normalise_, reduce_bias, take_rows
from swinv2.precision import at_least_fp32, is_emulated, without_autocast

FORWARD_SCORES = {"cpu": 8 * 2**20}
BACKWARD_SCORES = {"cpu": 4 * 2**20}
"""Bytes of a piece's fp32 scores by device, where no budget is set: on a CPU, what its caches hold. Of 2 to 32 MiB, 8
was best forward (170 windows of w8 or 10 of w16, 3 heads) and 4 backward, where more is computed beside the scores.
"""
OTHER_SCORES = 256 * 2**20
"""The same elsewhere, where a piece must be large enough to fill the device; not yet measured."""

KERNEL_BYTES = 2**19
"""What PyTorch's attention kernel keeps for its threads on a CPU of few cores."""


def sequential_attention(
    qkv: Tensor, bias: Tensor, window: Axes, shift: Axes, logit_scale: Tensor | None, budget: int = 0
) -> Tensor:
    """See `swinv2.ops.window_attention`; ``budget`` is in bytes, 0 for the device's default."""
    out: Tensor = _forward(qkv, bias, list(window), list(shift), logit_scale, budget)
    return out


def forward(
    qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None, budget: int = 0
) -> Tensor:
    """Attention piece by piece, ``[B, *grid, heads, head_dim]``."""
    axes = layout(tuple(qkv.shape[1:-3]), tuple(window), tuple(shift))
    tokens, (heads, head_dim), gaps = product(qkv.shape[:-3]), qkv.shape[-2:], has_padding(axes)
    wide = at_least_fp32(qkv.dtype)
    compute = wide if is_emulated(qkv.device.type, qkv.dtype) else qkv.dtype
    cut = _forward_cut(Job.of(tuple(qkv.shape), qkv.dtype, tuple(window), qkv.device.type), qkv.device.type, budget)
    rows_in = qkv.reshape(tokens, 3, heads, head_dim)
    rows_out = qkv.new_empty(tokens + 1, heads, head_dim)  # the last row takes what padding computes
    for block in blocks(axes, bias.to(wide), tuple(window), cut):
        scale = None if logit_scale is None else logit_scale[block.heads]
        for places, pair_bias in pieces(axes, qkv, block, cut):
            rows_WN3HD = _take(rows_in[:, :, block.heads], places, gaps).to(compute)
            out_WQHD = _piece_forward(rows_WN3HD, block.queries, pair_bias, scale)
            _put(rows_out[:, block.heads], places[:, block.queries], out_WQHD)
            del rows_WN3HD, out_WQHD, pair_bias  # else they live beside those of the next piece
        del block
    return rows_out[:tokens].view(*qkv.shape[:-3], heads, head_dim)


def _piece_forward(rows_WN3HD: Tensor, queries: slice, pair_bias: Tensor, logit_scale: Tensor | None) -> Tensor:
    """Attention of a piece, ``[W, Q, H, D]``. The rows may be overwritten."""
    q, k, v = rows_WN3HD[:, queries, 0], rows_WN3HD[:, :, 1], rows_WN3HD[:, :, 2]
    if logit_scale is not None:
        q, k = normalise_(q, logit_scale), normalise_(k)
    mask = pair_bias if q.device.type == "cpu" else pair_bias.to(q.dtype)  # only the CPU takes one of another dtype
    q_WHQD, k_WHND, v_WHND = (x.transpose(1, 2) for x in (q, k, v))
    scale = None if logit_scale is None else 1.0
    out = F.scaled_dot_product_attention(q_WHQD, k_WHND, v_WHND, attn_mask=mask[None], scale=scale)
    return out.transpose(1, 2)


def backward(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor,
    window: list[int],
    shift: list[int],
    logit_scale: Tensor | None,
    budget: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv, of the bias table and of the logit scale (zeros without one)."""
    axes = layout(tuple(qkv.shape[1:-3]), tuple(window), tuple(shift))
    run_window = tuple(axis.window for axis in axes)
    tokens, (heads, head_dim), gaps = product(qkv.shape[:-3]), qkv.shape[-2:], has_padding(axes)
    compute = at_least_fp32(qkv.dtype)
    cut = _backward_cut(Job.of(tuple(qkv.shape), qkv.dtype, tuple(window), qkv.device.type), qkv.device.type, budget)
    parted = cut.rows < run_window[0]  # then the gradients of keys and values are sums over pieces
    rows_in, rows_grad = qkv.reshape(tokens, 3, heads, head_dim), grad.reshape(tokens, heads, head_dim)
    rows_dtype = compute if parted else qkv.dtype
    grad_rows = torch.empty(tokens + 1, 3, heads, head_dim, dtype=rows_dtype, device=qkv.device)
    if parted:
        grad_rows.zero_()
    grad_bias = bias.new_zeros(bias.shape, dtype=compute)
    grad_scale = torch.zeros(heads, dtype=compute, device=qkv.device)
    for block in blocks(axes, bias.to(compute), tuple(window), cut):
        scale = None if logit_scale is None else logit_scale[block.heads]
        grad_pairs = torch.zeros_like(block.bias)
        for places, pair_bias in pieces(axes, qkv, block, cut):
            rows_WN3HD = _take(rows_in[:, :, block.heads], places, gaps)
            q, k, v = rows_WN3HD[:, block.queries, 0], rows_WN3HD[:, :, 1], rows_WN3HD[:, :, 2]
            out_grad = _take(rows_grad[:, block.heads], places[:, block.queries], gaps)
            q, k, v, out_grad = (_heads_first(x, compute) for x in (q, k, v, out_grad))
            del rows_WN3HD
            *grads, pairs_part, scale_part = _piece_backward(q, k, v, out_grad, pair_bias, scale)
            grad_pairs += pairs_part
            grad_scale[block.heads] += scale_part
            for part, (x, own) in enumerate(zip(grads, (places[:, block.queries], places, places), strict=True)):
                put = _add if parted and part else _put
                put(grad_rows[:, part, block.heads], own, x.transpose(1, 2))
            del q, k, v, out_grad, grads, pairs_part, pair_bias, x
        grad_bias[block.heads] += reduce_bias(grad_pairs, tuple(window), run_window, block.first_row)
        del block, grad_pairs
    return grad_rows[:tokens].to(qkv.dtype).view(qkv.shape), grad_bias.to(bias.dtype), grad_scale


def _piece_backward(
    q_WHQD: Tensor, k_WHND: Tensor, v_WHND: Tensor, out_grad_WHQD: Tensor, pair_bias: Tensor, logit_scale: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a piece's queries, keys, values, of the bias of its pairs ``[H, Q, N]`` and of the logit scale
    ``[H]``. Queries and keys are overwritten.
    """
    cosine = logit_scale is not None
    scale: Tensor | float = q_WHQD.shape[-1] ** -0.5
    if logit_scale is not None:  # it may have underflowed to 0, and is divided by
        scale = logit_scale.to(q_WHQD.dtype).clamp_min(1e-30).view(-1, 1, 1)
    q_inverse, k_inverse = (_inverse_norm(q_WHQD), _inverse_norm(k_WHND)) if cosine else (None, None)
    q_WHQD *= scale if q_inverse is None else q_inverse * scale
    if k_inverse is not None:
        k_WHND *= k_inverse
    probabilities = (q_WHQD @ k_WHND.mT).add_(pair_bias)
    probabilities = torch.softmax(probabilities, -1, out=probabilities)
    v_grad = probabilities.mT @ out_grad_WHQD
    logits_grad = out_grad_WHQD @ v_WHND.mT
    logits_grad = torch._softmax_backward_data(logits_grad, probabilities, -1, probabilities.dtype)
    q_grad, k_grad = logits_grad @ k_WHND, logits_grad.mT @ q_WHQD
    along = _unit_backward(q_grad, q_WHQD, q_inverse, scale)
    _unit_backward(k_grad, k_WHND, k_inverse, 1.0)
    scale_grad = along.sum((0, 2, 3)) / (scale.flatten() if isinstance(scale, Tensor) else scale)
    return q_grad, k_grad, v_grad, logits_grad.sum(0), scale_grad


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


def workspace(shape: tuple[int, ...], dtype: torch.dtype, window: Axes, device: str, budget: int = 0) -> int:
    """Most bytes that either pass takes beside its inputs and results, for a qkv of ``shape``."""
    job = Job.of(shape, dtype, window, device)
    cuts = _forward_cut(job, device, budget), _backward_cut(job, device, budget)
    return max(_forward_bytes(job, cuts[0]), _backward_bytes(job, cuts[1]))


def _forward_cut(job: Job, device: str, budget: int) -> Cut:
    if budget:
        return Cut.within(job, budget, budget, _forward_bytes)
    return Cut.of(job.run_window, job.heads, FORWARD_SCORES.get(device, OTHER_SCORES))


def _backward_cut(job: Job, device: str, budget: int) -> Cut:
    if budget:
        return Cut.within(job, budget, budget, _backward_bytes)
    return Cut.of(job.run_window, job.heads, BACKWARD_SCORES.get(device, OTHER_SCORES))


def _forward_bytes(job: Job, cut: Cut) -> int:
    """Two biases, one of them masked; rows of q, k and v, unit vectors of q and k, the result."""
    pairs, vectors = job.pairs(cut), job.piece(cut) * job.head_dim
    copies = job.item if job.compute != job.item or job.compute >= 4 else 2 * job.item + 4
    scores = job.keeps_scores * 2 * pairs * min(cut.windows, job.windows)
    return job.shared(cut) + 2 * pairs + scores + vectors * (4 * job.compute + copies) + KERNEL_BYTES


def _backward_bytes(job: Job, cut: Cut) -> int:
    """Biases, the sum of their gradients and a piece's part; probabilities and two gradients of the scores; rows and
    gradients of q, k and v, and that of the result; sums over pieces where a key's gradient is one.
    """
    pairs, wide, vectors = job.pairs(cut), max(4, job.item), job.piece(cut) * job.head_dim
    scores = 3 * pairs * min(cut.windows, job.windows)
    parted = cut.rows < job.run_window[0] and wide > job.item
    sums = parted * job.tokens * 3 * job.heads * job.head_dim * wide
    return job.shared(cut) + 4 * pairs + scores + vectors * (8 * wide + 2 * job.item) + sums


def _take(rows: Tensor, places: Tensor, gaps: bool) -> Tensor:
    """Rows ``[tokens, ...]`` at ``places`` ``[W, N]``: ``[W, N, ...]``, zeros for padding."""
    return take_rows(rows, places.flatten(), gaps).unflatten(0, places.shape)


def _put(rows: Tensor, places: Tensor, values: Tensor) -> None:
    """Write ``values`` ``[W, N, ...]`` to ``rows`` at ``places``; padding goes to the last row."""
    rows.index_copy_(0, _or_last(places, rows), values.flatten(0, 1).to(rows.dtype))


def _add(rows: Tensor, places: Tensor, values: Tensor) -> None:
    """`_put` that adds."""
    rows.index_add_(0, _or_last(places, rows), values.flatten(0, 1).to(rows.dtype))


def _or_last(places: Tensor, rows: Tensor) -> Tensor:
    return torch.where(places < 0, rows.shape[0] - 1, places).flatten()


def _heads_first(x_WNHD: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous ``[W, H, N, D]`` of its own."""
    return torch.empty_like(x_WNHD.transpose(1, 2), dtype=dtype, memory_format=torch.contiguous_format).copy_(
        x_WNHD.transpose(1, 2)
    )


_forward = torch.library.custom_op("swinv2::sequential_attention", forward, mutates_args=())
_backward = torch.library.custom_op("swinv2::sequential_attention_backward", backward, mutates_args=())


@_forward.register_fake
def _(
    qkv: Tensor, bias: Tensor, window: list[int], shift: list[int], logit_scale: Tensor | None, budget: int = 0
) -> Tensor:
    return qkv.new_empty(*qkv.shape[:-3], *qkv.shape[-2:])


@_backward.register_fake
def _(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor,
    window: list[int],
    shift: list[int],
    logit_scale: Tensor | None,
    budget: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    scale = at_least_fp32(qkv.dtype)
    return qkv.new_empty(qkv.shape), bias.new_empty(bias.shape), qkv.new_empty(qkv.shape[-2], dtype=scale)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, bias, ctx.window, ctx.shift, logit_scale, ctx.budget = inputs
    ctx.save_for_backward(qkv, bias, logit_scale)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    qkv, bias, logit_scale = ctx.saved_tensors
    with without_autocast(grad.device):
        grad_qkv, grad_bias, grad_scale = _backward(grad, qkv, bias, ctx.window, ctx.shift, logit_scale, ctx.budget)
    return grad_qkv, grad_bias, None, None, None if logit_scale is None else grad_scale.to(logit_scale.dtype), None


_forward.register_autograd(_autograd, setup_context=_setup_context)

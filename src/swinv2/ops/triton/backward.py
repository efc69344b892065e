"""Backward kernels: probabilities come again from the log-sum-exp (in base 2), qkv has one gradient.

Windows of one tile take `attention_backward` alone. Larger ones take three kernels over tiles of queries by keys, each
the only writer of what it sums: `attention_backward_queries` (and the correction ``delta``, before the others),
`attention_backward_keys` and `attention_backward_pairs` (the bias). No kernel uses atomics, so results repeat exactly.
"""

from __future__ import annotations

import triton
import triton.language as tl

from swinv2.ops.triton.addressing import (
    LOG2E,
    head_table,
    is_border,
    load_bias,
    load_rows,
    locate,
    logits,
    split_window,
    store_rows,
    table_offset,
    unit,
    unit_backward,
)

SIZES = ["extent", "shift", "tokens", "windows", "per_program"]
INFINITY = tl.constexpr(float("inf"))


@triton.jit(do_not_specialize=SIZES)
def attention_backward(
    grad_out,
    qkv,
    table,
    scale,
    lse,
    grad_qkv,
    pairs,
    grad_scale,
    extent,
    shift,
    tokens,
    windows,
    per_program,
    heads,
    WINDOW: tl.constexpr,
    TABLE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    COSINE: tl.constexpr,
    BIAS_GRAD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Program (chunk of windows, head), windows of one tile: all gradients of the chunk.

    ``pairs`` ``[chunks, heads, N, N]`` and ``grad_scale`` ``[heads, chunks]`` take the chunk's sums.
    """
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    chunk, head = tl.program_id(0), tl.program_id(1)
    token = tl.arange(0, BLOCK_M)
    offset = table_offset(token, WINDOW, TABLE)
    table = head_table(table, head, TABLE)
    bias = load_bias(table, offset[:, None], offset[None, :], token[None, :], WINDOW, BLOCK_M)
    step = heads * HEAD_DIM
    qkv += head * HEAD_DIM
    grad_qkv += head * HEAD_DIM
    factor = HEAD_DIM**-0.5
    if COSINE:
        factor = tl.load(scale + head)
    if BIAS_GRAD:
        pair_sum = tl.zeros([BLOCK_M, BLOCK_M], tl.float32)
    scale_sum = tl.zeros([BLOCK_M], tl.float32)
    for window in range(chunk * per_program, tl.minimum((chunk + 1) * per_program, windows)):
        image, place = split_window(window, extent, WINDOW)
        masked = is_border(place, extent, shift, WINDOW)
        row, region = locate(token, image, place, extent, shift, WINDOW)
        real = region >= 0
        q, q_inverse = unit(load_rows(qkv, row, real, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
        k, k_inverse = unit(load_rows(qkv + step, row, real, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
        score = logits(q, k, factor, bias, region, region, masked)
        base = tl.load(lse + head * tokens + row, mask=real, other=INFINITY)  # padded queries have no weights
        p = tl.exp2(score * LOG2E - base[:, None])
        v = load_rows(qkv + 2 * step, row, real, 3 * step, HEAD_DIM, BLOCK_D)
        upstream = load_rows(grad_out + head * HEAD_DIM, row, real, step, HEAD_DIM, BLOCK_D)
        dv = tl.dot(tl.trans(p.to(v.dtype)), upstream, input_precision="tf32x3")
        store_rows(grad_qkv + 2 * step, row, real, 3 * step, dv, HEAD_DIM, BLOCK_D)
        ds = p * tl.dot(upstream, tl.trans(v), input_precision="tf32x3")
        ds -= p * tl.sum(ds, 1)[:, None]
        if BIAS_GRAD:
            pair_sum += ds
        ds = ds.to(v.dtype)
        dq, along = unit_backward(tl.dot(ds, k, input_precision="tf32x3"), q, q_inverse, COSINE)
        scale_sum += along
        store_rows(grad_qkv, row, real, 3 * step, dq * factor, HEAD_DIM, BLOCK_D)
        dk, _k_along = unit_backward(tl.dot(tl.trans(ds), q, input_precision="tf32x3"), k, k_inverse, COSINE)
        store_rows(grad_qkv + step, row, real, 3 * step, dk * factor, HEAD_DIM, BLOCK_D)
    if COSINE:
        tl.store(grad_scale + head * tl.num_programs(0) + chunk, tl.sum(scale_sum, 0))
    if BIAS_GRAD:
        pairs += (chunk * heads + head).to(tl.int64) * (N * N)
        inside = token < N
        tl.store(pairs + token[:, None] * N + token[None, :], pair_sum, mask=inside[:, None] & inside[None, :])


@triton.jit(do_not_specialize=SIZES)
def attention_backward_queries(
    grad_out,
    qkv,
    table,
    scale,
    lse,
    out,
    delta,
    grad_qkv,
    grad_scale,
    extent,
    shift,
    tokens,
    heads,
    WINDOW: tl.constexpr,
    TABLE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    COSINE: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Program (window x query block, head): the queries' gradient.

    It also leaves ``delta = sum(grad_out * out)`` ``[heads, tokens]`` for the other kernels, and its share of the
    gradient of the scale in ``grad_scale`` ``[heads, programs]``.
    """
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    BLOCKS: tl.constexpr = (N + BLOCK_M - 1) // BLOCK_M
    head = tl.program_id(1)
    image, place = split_window(tl.program_id(0) // BLOCKS, extent, WINDOW)
    masked = is_border(place, extent, shift, WINDOW)
    step = heads * HEAD_DIM
    qkv += head * HEAD_DIM
    table = head_table(table, head, TABLE)
    factor = HEAD_DIM**-0.5
    if COSINE:
        factor = tl.load(scale + head)
    q_token = tl.program_id(0) % BLOCKS * BLOCK_M + tl.arange(0, BLOCK_M)
    q_offset = table_offset(q_token, WINDOW, TABLE)
    q_row, q_region = locate(q_token, image, place, extent, shift, WINDOW)
    real = q_region >= 0
    q, q_inverse = unit(load_rows(qkv, q_row, real, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
    upstream = load_rows(grad_out + head * HEAD_DIM, q_row, real, step, HEAD_DIM, BLOCK_D)
    result = load_rows(out + head * HEAD_DIM, q_row, real, step, HEAD_DIM, BLOCK_D)
    correction = tl.sum(upstream.to(tl.float32) * result.to(tl.float32), 1)
    tl.store(delta + head * tokens + q_row, correction, mask=real)
    base = tl.load(lse + head * tokens + q_row, mask=real, other=INFINITY)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start in range(0, N, BLOCK_K):
        k_token = start + tl.arange(0, BLOCK_K)
        k_row, k_region = locate(k_token, image, place, extent, shift, WINDOW)
        k, _k_inverse = unit(load_rows(qkv + step, k_row, k_region >= 0, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
        v = load_rows(qkv + 2 * step, k_row, k_region >= 0, 3 * step, HEAD_DIM, BLOCK_D)
        k_offset = table_offset(k_token, WINDOW, TABLE)
        bias = load_bias(table, q_offset[:, None], k_offset[None, :], k_token[None, :], WINDOW, BLOCK_K)
        p = tl.exp2(logits(q, k, factor, bias, q_region, k_region, masked) * LOG2E - base[:, None])
        ds = p * (tl.dot(upstream, tl.trans(v), input_precision="tf32x3") - correction[:, None])
        acc = tl.dot(ds.to(k.dtype), k, acc, input_precision="tf32x3")
    dq, along = unit_backward(acc, q, q_inverse, COSINE)
    store_rows(grad_qkv + head * HEAD_DIM, q_row, real, 3 * step, dq * factor, HEAD_DIM, BLOCK_D)
    if COSINE:
        tl.store(grad_scale + head * tl.num_programs(0) + tl.program_id(0), tl.sum(along, 0))


@triton.jit(do_not_specialize=SIZES)
def attention_backward_keys(
    grad_out,
    qkv,
    table,
    scale,
    lse,
    delta,
    grad_qkv,
    extent,
    shift,
    tokens,
    heads,
    WINDOW: tl.constexpr,
    TABLE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    COSINE: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Program (window x key block, head): the gradients of keys and values. Tiles are ``[keys, queries]``."""
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    BLOCKS: tl.constexpr = (N + BLOCK_K - 1) // BLOCK_K
    head = tl.program_id(1)
    image, place = split_window(tl.program_id(0) // BLOCKS, extent, WINDOW)
    masked = is_border(place, extent, shift, WINDOW)
    step = heads * HEAD_DIM
    qkv += head * HEAD_DIM
    grad_qkv += head * HEAD_DIM
    table = head_table(table, head, TABLE)
    factor = HEAD_DIM**-0.5
    if COSINE:
        factor = tl.load(scale + head)
    k_token = tl.program_id(0) % BLOCKS * BLOCK_K + tl.arange(0, BLOCK_K)
    k_offset = table_offset(k_token, WINDOW, TABLE)
    k_row, k_region = locate(k_token, image, place, extent, shift, WINDOW)
    k, k_inverse = unit(load_rows(qkv + step, k_row, k_region >= 0, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
    v = load_rows(qkv + 2 * step, k_row, k_region >= 0, 3 * step, HEAD_DIM, BLOCK_D)
    dk = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    for start in range(0, N, BLOCK_M):
        q_token = start + tl.arange(0, BLOCK_M)
        q_row, q_region = locate(q_token, image, place, extent, shift, WINDOW)
        real = q_region >= 0
        q, _q_inverse = unit(load_rows(qkv, q_row, real, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
        upstream = load_rows(grad_out + head * HEAD_DIM, q_row, real, step, HEAD_DIM, BLOCK_D)
        base = tl.load(lse + head * tokens + q_row, mask=real, other=INFINITY)
        correction = tl.load(delta + head * tokens + q_row, mask=real, other=0.0)
        q_offset = table_offset(q_token, WINDOW, TABLE)
        bias = load_bias(table, q_offset[None, :], k_offset[:, None], k_token[:, None], WINDOW, BLOCK_K)
        p = tl.exp2(logits(k, q, factor, bias, k_region, q_region, masked) * LOG2E - base[None, :])
        dv = tl.dot(p.to(v.dtype), upstream, dv, input_precision="tf32x3")
        ds = p * (tl.dot(v, tl.trans(upstream), input_precision="tf32x3") - correction[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="tf32x3")
    store_rows(grad_qkv + 2 * step, k_row, k_region >= 0, 3 * step, dv, HEAD_DIM, BLOCK_D)
    dk, _along = unit_backward(dk, k, k_inverse, COSINE)
    store_rows(grad_qkv + step, k_row, k_region >= 0, 3 * step, dk * factor, HEAD_DIM, BLOCK_D)


@triton.jit(do_not_specialize=[*SIZES, "first_head"])
def attention_backward_pairs(
    grad_out,
    qkv,
    table,
    scale,
    lse,
    delta,
    pairs,
    extent,
    shift,
    tokens,
    windows,
    per_program,
    first_head,
    heads,
    WINDOW: tl.constexpr,
    TABLE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    COSINE: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Program (query block x key block, head from ``first_head`` on, chunk of windows): a tile of the pairs' gradient.

    ``pairs`` ``[chunks, heads of this launch, N, N]`` takes the chunk's sum.
    """
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    BLOCKS: tl.constexpr = (N + BLOCK_K - 1) // BLOCK_K
    head = tl.program_id(1) + first_head
    chunk = tl.program_id(2)
    step = heads * HEAD_DIM
    qkv += head * HEAD_DIM
    q_token = tl.program_id(0) // BLOCKS * BLOCK_M + tl.arange(0, BLOCK_M)
    k_token = tl.program_id(0) % BLOCKS * BLOCK_K + tl.arange(0, BLOCK_K)
    q_offset, k_offset = table_offset(q_token, WINDOW, TABLE), table_offset(k_token, WINDOW, TABLE)
    table = head_table(table, head, TABLE)
    bias = load_bias(table, q_offset[:, None], k_offset[None, :], k_token[None, :], WINDOW, BLOCK_K)
    factor = HEAD_DIM**-0.5
    if COSINE:
        factor = tl.load(scale + head)
    pair_sum = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    for window in range(chunk * per_program, tl.minimum((chunk + 1) * per_program, windows)):
        image, place = split_window(window, extent, WINDOW)
        masked = is_border(place, extent, shift, WINDOW)
        q_row, q_region = locate(q_token, image, place, extent, shift, WINDOW)
        k_row, k_region = locate(k_token, image, place, extent, shift, WINDOW)
        real = q_region >= 0
        q, _q_inverse = unit(load_rows(qkv, q_row, real, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
        k, _k_inverse = unit(load_rows(qkv + step, k_row, k_region >= 0, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
        v = load_rows(qkv + 2 * step, k_row, k_region >= 0, 3 * step, HEAD_DIM, BLOCK_D)
        upstream = load_rows(grad_out + head * HEAD_DIM, q_row, real, step, HEAD_DIM, BLOCK_D)
        base = tl.load(lse + head * tokens + q_row, mask=real, other=INFINITY)
        correction = tl.load(delta + head * tokens + q_row, mask=real, other=0.0)
        p = tl.exp2(logits(q, k, factor, bias, q_region, k_region, masked) * LOG2E - base[:, None])
        pair_sum += p * (tl.dot(upstream, tl.trans(v), input_precision="tf32x3") - correction[:, None])
    pairs += (chunk * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * (N * N)
    inside = (q_token < N)[:, None] & (k_token < N)[None, :]
    tl.store(pairs + q_token[:, None] * N + k_token[None, :], pair_sum, mask=inside)


@triton.jit
def reduce_pairs(
    pairs,
    grad_table,
    WINDOW: tl.constexpr,
    TABLE: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Program (block of offsets, head): the pairs' gradient ``[heads, N, N]`` summed by offset into the table's."""
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    SIZE1: tl.constexpr = 2 * WINDOW[1] - 1
    SIZE2: tl.constexpr = 2 * WINDOW[2] - 1
    head = tl.program_id(1)
    pairs += head.to(tl.int64) * (N * N)
    entry = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    d0 = entry // (SIZE1 * SIZE2) - (WINDOW[0] - 1)
    d1 = entry // SIZE2 % SIZE1 - (WINDOW[1] - 1)
    d2 = entry % SIZE2 - (WINDOW[2] - 1)
    total = tl.zeros([BLOCK_E], tl.float32)
    for start in range(0, N, BLOCK_M):
        q = start + tl.arange(0, BLOCK_M)[None, :]
        k0 = q // (WINDOW[1] * WINDOW[2]) - d0[:, None]
        k1 = q // WINDOW[2] % WINDOW[1] - d1[:, None]
        k2 = q % WINDOW[2] - d2[:, None]
        inside = (k0 >= 0) & (k0 < WINDOW[0]) & (k1 >= 0) & (k1 < WINDOW[1]) & (k2 >= 0) & (k2 < WINDOW[2])
        pair = q * N + (k0 * WINDOW[1] + k1) * WINDOW[2] + k2
        total += tl.sum(tl.load(pairs + pair, mask=inside & (q < N), other=0.0), 1)
    offset = (d0 * TABLE[1] + d1) * TABLE[2] + d2
    tl.store(head_table(grad_table, head, TABLE) + offset, total, mask=d0 < WINDOW[0])

"""Forward kernel: attention of a block of a window's queries over all of its keys."""

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
)


@triton.jit(do_not_specialize=["extent", "shift", "tokens", "windows", "per_program"])
def attention_forward(
    qkv,
    table,
    scale,
    out,
    lse,
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
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Program (chunk of windows x query block, head). ``lse``, ``[heads, tokens]``, is in base 2.

    Where one key block holds the window, its tile of the bias stays in registers for all the windows of the chunk.
    """
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    BLOCKS: tl.constexpr = (N + BLOCK_M - 1) // BLOCK_M
    WHOLE: tl.constexpr = N <= BLOCK_K
    head = tl.program_id(1)
    first = tl.program_id(0) // BLOCKS * per_program
    q_token = tl.program_id(0) % BLOCKS * BLOCK_M + tl.arange(0, BLOCK_M)
    q_offset = table_offset(q_token, WINDOW, TABLE)
    table = head_table(table, head, TABLE)
    step = heads * HEAD_DIM
    qkv += head * HEAD_DIM
    if COSINE:
        factor = tl.load(scale + head)
    else:
        factor = HEAD_DIM**-0.5
    if WHOLE:
        k_token = tl.arange(0, BLOCK_K)
        k_offset = table_offset(k_token, WINDOW, TABLE)
        bias = load_bias(table, q_offset[:, None], k_offset[None, :], k_token[None, :], WINDOW, BLOCK_K)
    for window in range(first, tl.minimum(first + per_program, windows)):
        image, place = split_window(window, extent, WINDOW)
        masked = is_border(place, extent, shift, WINDOW)
        q_row, q_region = locate(q_token, image, place, extent, shift, WINDOW)
        q, _q_inverse = unit(load_rows(qkv, q_row, q_region >= 0, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
        top = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
        for start in range(0, N, BLOCK_K):
            k_token = start + tl.arange(0, BLOCK_K)
            k_row, k_region = locate(k_token, image, place, extent, shift, WINDOW)
            k, _k_inverse = unit(load_rows(qkv + step, k_row, k_region >= 0, 3 * step, HEAD_DIM, BLOCK_D), COSINE)
            v = load_rows(qkv + 2 * step, k_row, k_region >= 0, 3 * step, HEAD_DIM, BLOCK_D)
            if not WHOLE:
                k_offset = table_offset(k_token, WINDOW, TABLE)
                bias = load_bias(table, q_offset[:, None], k_offset[None, :], k_token[None, :], WINDOW, BLOCK_K)
            score = logits(q, k, factor, bias, q_region, k_region, masked)
            new_top = tl.maximum(top, tl.max(score, 1))
            base = tl.where(new_top == float("-inf"), 0.0, new_top) * LOG2E  # no key seen yet: keep clear of inf - inf
            p = tl.exp2(score * LOG2E - base[:, None])
            fade = tl.exp2(top * LOG2E - base)
            total = total * fade + tl.sum(p, 1)
            acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="tf32x3")
            top = new_top
        total = tl.where(total > 0.0, total, 1.0)  # a query beyond the window sees no key
        acc = acc / total[:, None]
        store_rows(out + head * HEAD_DIM, q_row, q_region >= 0, step, acc, HEAD_DIM, BLOCK_D)
        tl.store(lse + head * tokens + q_row, top * LOG2E + tl.log2(total), mask=q_region >= 0)

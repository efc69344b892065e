"""Where a window's tokens lie in the map, and what the kernels share: loads, unit vectors, masked scores.

Kernels see three axes; a map of fewer has leading axes of size 1, whose arithmetic is dropped at compile time. Tuples
``WINDOW`` (as it runs) and ``TABLE`` (sizes of the offset table, of the configured window) are compile-time constants;
``extent`` (the grid) and ``shift`` are not, so that maps of any size share a kernel.

Shape letters: M queries and K keys of a tile, N tokens of a window, D head_dim padded to a power of two.
"""

from __future__ import annotations

import triton
import triton.language as tl

from swinv2.ops.windows import NORM_EPS

EPS = tl.constexpr(NORM_EPS)
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def split_window(index, extent, WINDOW: tl.constexpr):
    """Image of a window, and its place on each axis."""
    count1, count2 = tl.cdiv(extent[1], WINDOW[1]), tl.cdiv(extent[2], WINDOW[2])
    per_image = tl.cdiv(extent[0], WINDOW[0]) * count1 * count2
    image, rest = index // per_image, index % per_image
    return image, (rest // (count1 * count2), rest // count2 % count1, rest % count2)


@triton.jit
def is_border(place, extent, shift, WINDOW: tl.constexpr):
    """Whether a window holds padding or tokens that the roll brought from the far end."""
    past0 = (place[0] + 1) * WINDOW[0] + shift[0] > extent[0]
    past1 = (place[1] + 1) * WINDOW[1] + shift[1] > extent[1]
    past2 = (place[2] + 1) * WINDOW[2] + shift[2] > extent[2]
    return past0 | past1 | past2


@triton.jit
def _along(token, place, extent, shift, WINDOW: tl.constexpr):
    """Coordinate of tokens on one axis, and whether the roll moved them there."""
    if WINDOW == 1:  # nothing is shifted
        return token * 0 + place, token < 0
    padded = tl.cdiv(extent, WINDOW) * WINDOW
    position = place * WINDOW + token + shift
    wrapped = position >= padded
    return tl.where(wrapped, position - padded, position), wrapped


@triton.jit
def locate(token, image, place, extent, shift, WINDOW: tl.constexpr):
    """Row of a window's tokens in the map ``[B * grid]``, and their region: 0 to 7, or -1 for padding.

    Two tokens may attend to each other if their regions agree; tokens beyond the window count as padding.
    """
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    c0, wrapped0 = _along(token // (WINDOW[1] * WINDOW[2]), place[0], extent[0], shift[0], WINDOW[0])
    c1, wrapped1 = _along(token // WINDOW[2] % WINDOW[1], place[1], extent[1], shift[1], WINDOW[1])
    c2, wrapped2 = _along(token % WINDOW[2], place[2], extent[2], shift[2], WINDOW[2])
    real = (token < N) & (c0 < extent[0]) & (c1 < extent[1]) & (c2 < extent[2])
    region = wrapped0.to(tl.int32) * 4 + wrapped1.to(tl.int32) * 2 + wrapped2.to(tl.int32)
    row = ((image * extent[0] + c0) * extent[1] + c1) * extent[2] + c2
    return row, tl.where(real, region, -1)


@triton.jit
def table_offset(token, WINDOW: tl.constexpr, TABLE: tl.constexpr):
    """Place of tokens in the flattened offset table: that of a pair is query's minus key's plus `table_centre`."""
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    inside = tl.minimum(token, N - 1)
    t0, t1, t2 = inside // (WINDOW[1] * WINDOW[2]), inside // WINDOW[2] % WINDOW[1], inside % WINDOW[2]
    return (t0 * TABLE[1] + t1) * TABLE[2] + t2


@triton.jit
def head_table(table, head, TABLE: tl.constexpr):
    """Address of the offset 0 of a head's table: its centre."""
    size: tl.constexpr = TABLE[0] * TABLE[1] * TABLE[2]
    return table + head * size + size // 2


@triton.jit
def load_bias(table, q_offset, k_offset, k_token, WINDOW: tl.constexpr, BLOCK_K: tl.constexpr):
    """Bias of a tile, from offsets and key tokens that broadcast to it; -inf for keys beyond the window."""
    N: tl.constexpr = WINDOW[0] * WINDOW[1] * WINDOW[2]
    if N % BLOCK_K == 0:
        return tl.load(table + (q_offset - k_offset))
    # Not by the load's mask: whatever lies at the offset of the last token is good enough to be replaced.
    return tl.where(k_token < N, tl.load(table + (q_offset - k_offset)), float("-inf"))


@triton.jit
def load_rows(base, row, real, stride, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Vectors ``[rows, D]`` at ``base + row * stride``, zeros where not ``real`` and beyond ``HEAD_DIM``."""
    d = tl.arange(0, BLOCK_D)
    mask = real[:, None]
    if HEAD_DIM != BLOCK_D:
        mask = mask & (d < HEAD_DIM)[None, :]
    return tl.load(base + row.to(tl.int64)[:, None] * stride + d[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(base, row, real, stride, value, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Counterpart of `load_rows`."""
    d = tl.arange(0, BLOCK_D)
    mask = real[:, None]
    if HEAD_DIM != BLOCK_D:
        mask = mask & (d < HEAD_DIM)[None, :]
    tl.store(base + row.to(tl.int64)[:, None] * stride + d[None, :], value.to(base.dtype.element_ty), mask=mask)


@triton.jit
def unit(x, COSINE: tl.constexpr):
    """Vectors ``[rows, D]`` at unit length, and the factors ``[rows]`` that made them so; without cosine, x."""
    wide = x.to(tl.float32)
    inverse = 1.0 / tl.maximum(tl.sqrt(tl.sum(wide * wide, 1)), EPS)
    if COSINE:
        return (wide * inverse[:, None]).to(x.dtype), inverse
    return x, inverse


@triton.jit
def unit_backward(grad, y, inverse, COSINE: tl.constexpr):
    """Gradient of x from that of ``y = unit(x)``, and ``grad . y``.

    What lies along x vanishes, unless x is shorter than EPS.
    """
    along = tl.sum(grad * y.to(tl.float32), 1)
    if COSINE:
        share = tl.where(inverse * EPS < 1.0, along, 0.0)
        grad = (grad - y.to(tl.float32) * share[:, None]) * inverse[:, None]
    return grad, along


@triton.jit
def logits(left, right, factor, bias, left_region, right_region, masked):
    """Scores of a tile ``[left, right]`` in natural units, -inf between regions where ``masked``."""
    score = tl.dot(left, tl.trans(right), input_precision="tf32x3") * factor + bias
    if masked:
        score = tl.where(left_region[:, None] == right_region[None, :], score, float("-inf"))
    return score

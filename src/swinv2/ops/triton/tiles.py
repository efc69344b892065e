"""Sizes: what a call's windows look like to the kernels, and the table of tile configurations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from swinv2.config import Axes
from swinv2.geometry import layout, product

AXES = 3
PROGRAMS = 1024
"""How many programs fill a device with some to spare (132 multiprocessors of an H100, several programs each)."""
PAIR_BYTES = 128 * 2**20
"""What the fp32 pairs' gradients of several heads of large windows may take at once; one head is the least."""


@dataclass(frozen=True)
class Tile:
    """Queries and keys of a tile, and how many warps and pipeline stages work on it."""

    queries: int
    keys: int
    warps: int
    stages: int
    registers: int | None = None
    """Most registers of a thread, where that buys occupancy without spills; None: the compiler's choice."""


# By kernel, then by bytes of an element: tiles for head_dim up to 32, 64 and 128. tests/ops/triton/test_aot.py compiles
# them for sm_80 and sm_90 and asserts registers, shared memory and spills; they are not yet timed on a GPU. Rows of a
# product take 16 per warp: more warps than that would repeat each other's work.
TILES: dict[str, dict[int, dict[int, Tile]]] = {
    "forward": {
        2: {32: Tile(64, 32, 4, 1, 128), 64: Tile(64, 32, 4, 1), 128: Tile(64, 32, 8, 1)},
        4: {32: Tile(64, 32, 4, 1), 64: Tile(32, 16, 4, 1)},
    },
    "queries": {
        2: {32: Tile(64, 32, 4, 2, 128), 64: Tile(64, 32, 4, 1), 128: Tile(64, 32, 8, 1)},
        4: {32: Tile(64, 32, 4, 1), 64: Tile(32, 16, 4, 1)},
    },
    "keys": {
        2: {32: Tile(32, 64, 4, 1), 64: Tile(32, 32, 4, 1), 128: Tile(32, 32, 4, 1)},
        4: {32: Tile(16, 64, 4, 1), 64: Tile(16, 32, 4, 1)},
    },
    "pairs": {
        2: {32: Tile(64, 32, 4, 1, 168), 64: Tile(64, 32, 4, 1), 128: Tile(64, 32, 8, 1)},
        4: {32: Tile(64, 16, 4, 1), 64: Tile(32, 16, 4, 1)},
    },
}
WHOLE_WINDOW = {2: {32: 64, 64: 32, 128: 0}, 4: {32: 0, 64: 0}}
"""Most tokens, by bytes of an element and head_dim, of a window that is one tile; its bias, and the gradient of that,
then stay in registers. fp32 has none to spare."""
WHOLE_WARPS = {16: 1, 32: 2, 64: 4}
"""Warps of a whole-window program by the side of its tile."""
REDUCE = Tile(32, 16, 4, 1)
"""Queries and offsets (as keys) of a tile of the last sum of the bias gradient."""


@dataclass(frozen=True)
class Problem:
    """A call as the kernels see it: three axes, windows as they run."""

    batch: int
    grid: Axes
    window: Axes
    shift: Axes
    table: Axes
    heads: int
    head_dim: int
    item_bytes: int

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: torch.dtype, window: Axes, shift: Axes) -> Problem:
        """The problem of a qkv of ``shape`` ``[B, *grid, 3, heads, head_dim]``."""
        lead = (1,) * (AXES - len(window))
        axes = layout(tuple(shape[1:-3]), window, shift)
        return cls(
            batch=shape[0],
            grid=lead + tuple(axis.grid for axis in axes),
            window=lead + tuple(axis.window for axis in axes),
            shift=(0,) * len(lead) + tuple(axis.shift for axis in axes),
            table=lead + tuple(2 * w - 1 for w in window),
            heads=shape[-2],
            head_dim=shape[-1],
            item_bytes=dtype.itemsize,
        )

    @property
    def area(self) -> int:
        """Tokens of a window, N."""
        return product(self.window)

    @property
    def tokens(self) -> int:
        """Tokens of all the maps."""
        return self.batch * product(self.grid)

    @property
    def windows(self) -> int:
        """Windows of all the maps."""
        return self.batch * product([-(-g // w) for g, w in zip(self.grid, self.window, strict=True)])

    @property
    def block_d(self) -> int:
        """head_dim padded to what a matrix product takes."""
        return max(16, power_of_two(self.head_dim))

    @property
    def whole(self) -> bool:
        """Whether one tile holds a window."""
        return self.area <= WHOLE_WINDOW[self.item_bytes][max(32, self.block_d)]

    def tile(self, kernel: str) -> Tile:
        """Tile of "forward", "queries", "keys" or "pairs", or of the whole-window "backward"."""
        if not self.whole:
            return TILES[kernel][self.item_bytes][max(32, self.block_d)]
        side = max(16, power_of_two(self.area))
        return Tile(side, side, WHOLE_WARPS[side], 1)

    @property
    def forward_chunks(self) -> tuple[int, int]:
        """Windows that a program of the forward pass takes in turn, and the number of such chunks."""
        return self._chunks(self.heads) if self.whole else (1, self.windows)  # only a whole bias is worth keeping

    @property
    def pair_chunks(self) -> tuple[int, int]:
        """The same for the programs that sum the bias gradient."""
        if self.whole:
            return self._chunks(self.heads)
        tile = self.tile("pairs")
        return self._chunks(-(-self.area // tile.queries) * -(-self.area // tile.keys) * self.heads)

    @property
    def pair_heads(self) -> int:
        """Heads of large windows whose bias gradients are summed at once."""
        return min(self.heads, max(1, PAIR_BYTES // (4 * self.pair_chunks[1] * self.area**2)))

    @property
    def query_programs(self) -> int:
        """Programs a head of the queries' gradient."""
        return self.windows * -(-self.area // self.tile("queries").queries)

    @property
    def workspace(self) -> int:
        """Bytes of the saved log-sum-exp and of what the backward pass takes beside its results.

        That is the pairs' gradients, their sum, parts of the scale's gradient and, for large windows, delta.
        """
        saved = 4 * self.heads * self.tokens
        chunks, pairs = self.pair_chunks[1], 4 * self.area**2
        if self.whole:
            return saved + 4 * self.heads * chunks + pairs * self.heads * (chunks + 1)
        sums = pairs * self.pair_heads * (chunks + (chunks > 1))
        return 2 * saved + 4 * self.heads * self.query_programs + sums

    def _chunks(self, programs_per_window: int) -> tuple[int, int]:
        wanted = -(-PROGRAMS // programs_per_window)
        per_program = -(-self.windows // min(self.windows, wanted))
        return per_program, -(-self.windows // per_program)


def largest_head_dim(dtype: torch.dtype) -> int:
    """What the table of tiles covers."""
    return max(TILES["forward"][dtype.itemsize])


def power_of_two(size: int) -> int:
    """Smallest power of two that is not below ``size``."""
    return 1 << (size - 1).bit_length()

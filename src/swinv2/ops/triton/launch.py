"""From tensors to kernel launches, as data: the ahead-of-time test compiles exactly what a call would run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from swinv2.ops.triton.forward import attention_forward
from swinv2.ops.triton.tiles import Problem, Tile


@dataclass(frozen=True)
class Launch:
    """A kernel with its programs, its arguments by name (compile-time constants apart) and its tile."""

    kernel: Any
    programs: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    tile: Tile

    def run(self) -> None:
        """Enqueue it on the current stream."""
        options = {"num_warps": self.tile.warps, "num_stages": self.tile.stages}
        self.kernel[self.programs](**self.arguments, **self.constants, **options)


def _constants(problem: Problem, cosine: bool, tile: Tile) -> dict[str, Any]:
    return {
        "WINDOW": problem.window,
        "TABLE": problem.table,
        "HEAD_DIM": problem.head_dim,
        "COSINE": cosine,
        "BLOCK_D": problem.block_d,
        "BLOCK_M": tile.queries,
        "BLOCK_K": tile.keys,
    }


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


def forward_launch(
    problem: Problem, qkv: Tensor, table: Tensor, scale: Tensor | None, out: Tensor, lse: Tensor
) -> Launch:
    """Attention of all windows into ``out`` and ``lse`` ``[heads, tokens]``."""
    tile = problem.tile("forward")
    # Only a bias that one tile holds can be kept from window to window.
    per_program, chunks = problem.chunks(problem.heads) if problem.whole else (1, problem.windows)
    arguments = {
        "qkv": qkv,
        "table": table,
        "scale": table if scale is None else scale,
        "out": out,
        "lse": lse,
        "extent": problem.grid,
        "shift": problem.shift,
        "tokens": problem.tokens,
        "windows": problem.windows,
        "per_program": per_program,
        "heads": problem.heads,
    }
    programs = (chunks * _blocks(problem.area, tile.queries), problem.heads)
    return Launch(attention_forward, programs, arguments, _constants(problem, scale is not None, tile), tile)

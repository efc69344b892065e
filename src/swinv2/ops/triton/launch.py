"""From tensors to kernel launches, as data: the ahead-of-time test compiles exactly what a call would run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swinv2.geometry import product
from swinv2.ops.triton import backward, forward
from swinv2.ops.triton.tiles import REDUCE, Problem, Tile, power_of_two


@dataclass(frozen=True)
class Launch:
    """A kernel with its programs, its arguments by name (compile-time constants apart) and its tile."""

    kernel: Any
    programs: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    tile: Tile

    @property
    def options(self) -> dict[str, int | None]:
        """What Triton calls the tile's warps, stages and registers."""
        return {"num_warps": self.tile.warps, "num_stages": self.tile.stages, "maxnreg": self.tile.registers}

    def run(self) -> None:
        """Enqueue it on the current stream."""
        self.kernel[self.programs](**self.arguments, **self.constants, **self.options)


@dataclass(frozen=True)
class Inputs:
    """What every kernel of a call reads."""

    problem: Problem
    qkv: Tensor
    table: Tensor
    scale: Tensor | None

    def launch(self, kernel: Any, tile: Tile, programs: tuple[int, ...], **own: Any) -> Launch:
        """A launch of ``kernel`` with these inputs, the sizes, and arguments of its ``own``."""
        problem = self.problem
        constants = {
            "WINDOW": problem.window,
            "TABLE": problem.table,
            "HEAD_DIM": problem.head_dim,
            "COSINE": self.scale is not None,
            "BLOCK_D": problem.block_d,
            "BLOCK_M": tile.queries,
            "BLOCK_K": tile.keys,
        }
        arguments = {
            "qkv": self.qkv,
            "table": self.table,
            "scale": self.table if self.scale is None else self.scale,
            "extent": problem.grid,
            "shift": problem.shift,
            "tokens": problem.tokens,
            "heads": problem.heads,
            **{name: value for name, value in own.items() if name.islower()},
        }
        constants.update({name: value for name, value in own.items() if name.isupper()})
        return Launch(kernel, programs, arguments, constants, tile)


def forward_launch(inputs: Inputs, out: Tensor, lse: Tensor) -> Launch:
    """Attention of all windows into ``out``, and its log-sum-exp, in base 2, into ``lse`` ``[heads, tokens]``."""
    problem = inputs.problem
    tile = problem.tile("forward")
    per_program, chunks = problem.forward_chunks
    return inputs.launch(
        forward.attention_forward,
        tile,
        (chunks * blocks(problem.area, tile.queries), problem.heads),
        out=out,
        lse=lse,
        windows=problem.windows,
        per_program=per_program,
    )


def whole_backward_launch(
    inputs: Inputs, saved: dict[str, Tensor], grad_qkv: Tensor, pairs: Tensor, grad_scale: Tensor, bias_grad: bool
) -> Launch:
    """All gradients, of windows of one tile; ``saved`` holds ``grad_out`` and ``lse``."""
    problem = inputs.problem
    per_program, chunks = problem.pair_chunks
    return inputs.launch(
        backward.attention_backward,
        problem.tile("backward"),
        (chunks, problem.heads),
        **saved,
        grad_qkv=grad_qkv,
        pairs=pairs,
        grad_scale=grad_scale,
        windows=problem.windows,
        per_program=per_program,
        BIAS_GRAD=bias_grad,
    )


def queries_launch(
    inputs: Inputs, saved: dict[str, Tensor], out: Tensor, grad_qkv: Tensor, grad_scale: Tensor
) -> Launch:
    """The queries' gradient; fills ``delta`` of ``saved`` for the launches below."""
    problem = inputs.problem
    programs = (problem.query_programs, problem.heads)
    return inputs.launch(
        backward.attention_backward_queries,
        problem.tile("queries"),
        programs,
        **saved,
        out=out,
        grad_qkv=grad_qkv,
        grad_scale=grad_scale,
    )


def keys_launch(inputs: Inputs, saved: dict[str, Tensor], grad_qkv: Tensor) -> Launch:
    """The gradients of keys and values; ``saved`` holds ``grad_out``, ``lse`` and ``delta``."""
    problem = inputs.problem
    tile = problem.tile("keys")
    programs = (problem.windows * blocks(problem.area, tile.keys), problem.heads)
    return inputs.launch(backward.attention_backward_keys, tile, programs, **saved, grad_qkv=grad_qkv)


def pairs_launch(inputs: Inputs, saved: dict[str, Tensor], pairs: Tensor, first_head: int) -> Launch:
    """The pairs' gradient of ``pairs.shape[1]`` heads from ``first_head`` on."""
    problem = inputs.problem
    tile = problem.tile("pairs")
    per_program, chunks = problem.pair_chunks
    tiles = blocks(problem.area, tile.queries) * blocks(problem.area, tile.keys)
    return inputs.launch(
        backward.attention_backward_pairs,
        tile,
        (tiles, pairs.shape[1], chunks),
        **saved,
        pairs=pairs,
        windows=problem.windows,
        per_program=per_program,
        first_head=first_head,
    )


def reduce_launch(problem: Problem, pairs: Tensor, grad_table: Tensor) -> Launch:
    """The pairs' gradient ``[heads, N, N]`` by offset into ``grad_table``."""
    tile = Tile(min(REDUCE.queries, power_of_two(problem.area)), REDUCE.keys, REDUCE.warps, REDUCE.stages)
    entries = product([2 * w - 1 for w in problem.window])
    constants = {
        "WINDOW": problem.window,
        "TABLE": problem.table,
        "BLOCK_E": tile.keys,
        "BLOCK_M": tile.queries,
    }
    arguments = {"pairs": pairs, "grad_table": grad_table}
    return Launch(backward.reduce_pairs, (blocks(entries, tile.keys), pairs.shape[0]), arguments, constants, tile)


def run_forward(inputs: Inputs, out: Tensor, lse: Tensor) -> None:
    """Fill ``out`` and ``lse``."""
    forward_launch(inputs, out, lse).run()


def run_backward(
    inputs: Inputs, grad_out: Tensor, out: Tensor, lse: Tensor, grad_qkv: Tensor, grad_table: Tensor, bias_grad: bool
) -> Tensor:
    """Fill ``grad_qkv``, and ``grad_table`` if ``bias_grad``; return the gradient of the scale ``[heads]``."""
    problem = inputs.problem
    saved = {"grad_out": grad_out, "lse": lse}
    workspace = lse.new_empty  # fp32, on the device
    if problem.whole:
        chunks, heads = problem.pair_chunks[1], problem.heads
        scale_parts = workspace(heads, chunks)
        pairs = workspace(chunks if bias_grad else 0, heads, problem.area, problem.area)
        whole_backward_launch(inputs, saved, grad_qkv, pairs, scale_parts, bias_grad).run()
        if bias_grad:
            reduce_launch(problem, pairs.sum(0), grad_table).run()
        return scale_parts.sum(1)
    saved["delta"] = workspace(lse.shape)
    scale_parts = workspace(problem.heads, problem.query_programs)
    queries_launch(inputs, saved, out, grad_qkv, scale_parts).run()
    keys_launch(inputs, saved, grad_qkv).run()
    if bias_grad:
        _run_pairs(inputs, saved, grad_table)
    return scale_parts.sum(1)


def _run_pairs(inputs: Inputs, saved: dict[str, Tensor], grad_table: Tensor) -> None:
    """Some heads at a time, so that what their pairs take stays bounded."""
    problem = inputs.problem
    chunks, at_once = problem.pair_chunks[1], problem.pair_heads
    for first in range(0, problem.heads, at_once):
        heads = min(at_once, problem.heads - first)
        pairs = torch.empty(chunks, heads, problem.area, problem.area, dtype=torch.float32, device=grad_table.device)
        pairs_launch(inputs, saved, pairs, first).run()
        summed = pairs[0] if chunks == 1 else pairs.sum(0)
        reduce_launch(problem, summed, grad_table[first : first + heads]).run()


def blocks(size: int, block: int) -> int:
    """How many blocks cover ``size``."""
    return -(-size // block)

"""What a model has to compute and to move, on paper, and the time that this takes at least on a measured machine.

Counted for one forward pass in evaluation, stage by stage, in two parts:

- *linear*: patch embedding, projections, MLPs, mergings and head. Each reads its input and weights once and writes its
  output once; norms, GELU and residual sums are taken as done in these passes, the sums reading their other term.
- *attention*: reads the projection's output and writes its own. Two products of 2 N head_dim operations for each
  query and head, and one exponential for each pair of a query and a key. Pairs that a mask hides, and places of
  padding, are counted, as every implementation computes them.

The bias tables are not counted: in evaluation they are computed once and kept. The floor of a part is the longest of
its three times: operations, bytes, exponentials. Bytes are set against the bandwidth of memory: maps that stay in a
cache between two layers can be faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from swinv2.benchmark.machine import Ceilings
from swinv2.config import Axes, SwinConfig
from swinv2.geometry import layout

PARTS = ("linear", "attention")


@dataclass(frozen=True)
class Linear:
    """A linear layer ``[rows, inputs] -> [rows, outputs]``, ``count`` times in a stage.

    Args:
        stage: number of the stage, from 1; 0 for patch embedding and head.
        name: qkv, proj, fc1, fc2, merge, embed or head.
        residual: whether its output is added to the main road, which is read for it.
    """

    stage: int
    name: str
    rows: int
    inputs: int
    outputs: int
    count: int = 1
    residual: bool = False

    @property
    def work(self) -> Work:
        """Without the vectors of biases, which are nothing beside."""
        moved = self.rows * (self.inputs + self.outputs * (2 if self.residual else 1)) + self.inputs * self.outputs
        return Work(flops=2 * self.rows * self.inputs * self.outputs, elements=moved) * self.count


@dataclass(frozen=True)
class Work:
    """Floating point operations, elements read and written, exponentials."""

    flops: int = 0
    elements: int = 0
    exponentials: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.elements + other.elements, self.exponentials + other.exponentials)

    def __mul__(self, times: int) -> Work:
        return Work(self.flops * times, self.elements * times, self.exponentials * times)

    def floor(self, ceilings: Ceilings, dtype: str, itemsize: int) -> tuple[float, str]:
        """Seconds that it takes at least, and what bounds it: operations, bytes or exponentials."""
        times = {
            "operations": self.flops / ceilings.flops[dtype],
            "bytes": self.elements * itemsize / ceilings.bandwidth,
            "exponentials": self.exponentials / ceilings.exponentials,
        }
        bound = max(times, key=lambda name: times[name])
        return times[bound], bound


def linears(config: SwinConfig, image_size: Axes, batch: int) -> Iterator[Linear]:
    """Every linear layer of a forward pass; the patch embedding's convolution is one too."""
    grids = config.grids(image_size)
    patch = config.in_channels * prod(config.patch_size)
    yield Linear(0, "embed", batch * prod(grids[0]), patch, config.embed_dim)
    for stage, (dim, depth, grid) in enumerate(zip(config.dims, config.depths, grids, strict=True)):
        rows, hidden, number = batch * prod(grid), int(dim * config.mlp_ratio), stage + 1
        if stage:
            yield Linear(number, "merge", rows, prod(config.merge_size) * dim // 2, dim)
        yield Linear(number, "qkv", rows, dim, 3 * dim, depth)
        yield Linear(number, "proj", rows, dim, dim, depth, residual=True)
        yield Linear(number, "fc1", rows, dim, hidden, depth)
        yield Linear(number, "fc2", rows, hidden, dim, depth, residual=True)
    if config.num_classes:
        yield Linear(0, "head", batch, config.num_features, config.num_classes)


def attention(grid: Axes, window: Axes, heads: int, head_dim: int, batch: int) -> Work:
    """One unshifted call of the operator, forward; a shift adds no window."""
    axes = layout(grid, window, (0,) * len(grid))
    tokens, width = batch * prod(grid), heads * head_dim
    pairs = batch * prod(axis.padded for axis in axes) * prod(axis.window for axis in axes)
    return Work(flops=4 * pairs * width, elements=4 * tokens * width, exponentials=pairs * heads)


def attention_backward(grid: Axes, window: Axes, heads: int, head_dim: int, batch: int) -> Work:
    """Its backward pass where probabilities are computed again: five products instead of two.

    It reads qkv and the output's gradient, and writes the gradient of qkv.
    """
    once = attention(grid, window, heads, head_dim, batch)
    return Work(once.flops * 5 // 2, once.elements * 7 // 4, once.exponentials)


def work(config: SwinConfig, image_size: Axes, batch: int) -> dict[tuple[int, str], Work]:
    """Work of every (stage, part) of a forward pass; stage 0 is patch embedding and head."""
    total: dict[tuple[int, str], Work] = {}
    for layer in linears(config, image_size, batch):
        key = (layer.stage, "linear")
        total[key] = total.get(key, Work()) + layer.work
    for stage, grid in enumerate(config.grids(image_size)):
        heads, dim = config.num_heads[stage], config.dims[stage]
        once = attention(grid, config.window_size[stage], heads, dim // heads, batch)
        total[stage + 1, "attention"] = once * config.depths[stage]
    return dict(sorted(total.items(), key=lambda item: (item[0][0], PARTS.index(item[0][1]))))


def floor(config: SwinConfig, image_size: Axes, batch: int, ceilings: Ceilings, dtype: str, itemsize: int) -> float:
    """Seconds of a forward pass at least: the sum of its parts' floors."""
    parts = work(config, image_size, batch).values()
    return sum(part.floor(ceilings, dtype, itemsize)[0] for part in parts)

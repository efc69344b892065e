"""`torch.nn.Linear` by `swinv2.ops.linear`, and what layers share that run on a part of their rows at a time.

In evaluation on a CPU, what is several times as wide as the map (projections, hidden layers) is made for a part of
the rows: it then stays in the cache, and below the 32 MiB above which glibc asks the system for fresh pages on every
allocation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from swinv2.geometry import ceil_div
from swinv2.ops.linear import linear
from swinv2.precision import at_least_fp32

PART_BYTES = 16 * 2**20
"""What is made at a time; of 2 to 30 MiB none was worse by more than the noise of 3%."""


class Linear(nn.Linear):
    """``[..., in]`` to ``[..., out]``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def memory_is_free() -> bool:
    """Whether a result may be written over what it was made from: nothing is kept for a backward pass, or traced."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer is what it was made as: nobody replaced it, or waits to see its result."""
    return type(layer) is kind and not layer._forward_hooks and not layer._forward_pre_hooks


def in_parts(run: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """``run(x)``, which treats every entry of the first axis alone, and makes ``width`` numbers of each for a while."""
    if x.device.type != "cpu" or not memory_is_free():
        return run(x)
    parts = ceil_div(x.shape[0] * width * at_least_fp32(x.dtype).itemsize, PART_BYTES)
    if parts <= 1:
        return run(x)
    return torch.cat([run(part) for part in x.split(ceil_div(x.shape[0], parts))])

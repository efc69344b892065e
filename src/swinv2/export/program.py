"""A model as a graph of standard operators whose batch and sizes stay open.

The graph is right at every size because nothing in it asks about a size: attention runs on the backend ``padded``, and
patches are padded and merged by rules without a condition (`swinv2.model.patch`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx.experimental._config as shape_config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel

from swinv2.model import SwinTransformer
from swinv2.model.features import SwinBackbone
from swinv2.model.position_bias import PositionBias
from swinv2.model.stages import SwinStages

MAX_BATCH, MAX_SIZE = 2**16, 2**16
"""Largest batch and largest number of pixels or frames along an axis that a graph admits; the least is 1."""

AXES = ("frames", "height", "width")
"""Names of a graph's open axes; an image has the last two, a signal the last one."""

_EXAMPLE = (37, 50, 63)


class ConstantBias(nn.Module):
    """A position bias that was computed once: fp32 table ``[heads, *(2w-1)]``."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table: Tensor
        self.register_buffer("table", table)

    def forward(self) -> Tensor:
        return self.table


class Frozen(nn.Module):
    """A model as it is traced: a `twin` whose position biases are computed."""

    def __init__(self, model: SwinStages) -> None:
        super().__init__()
        self.model = twin(model)
        self.model.set_attention_backend("auto")
        for module in list(self.model.modules()):
            for name, child in module.named_children():
                if isinstance(child, PositionBias):
                    with torch.no_grad():
                        setattr(module, name, ConstantBias(child.compute().contiguous()))

    def forward(self, x: Tensor) -> Any:
        """What the model gives."""
        if not isinstance(self.model, SwinTransformer):
            return self.model(x)
        axes = tuple(range(2, x.ndim))  # the model's own flatten(2) would ask whether the last axis is 1
        return self.model.head(self.model.forward_features(x).mean(axes))


def twin(model: SwinStages) -> SwinStages:
    """The model in evaluation on the CPU, sharing the weights that lie there; ``model`` itself stays as it is."""
    shared = {id(p): nn.Parameter(p.detach().cpu(), requires_grad=False) for p in model.parameters()}
    copied = copy.deepcopy(model, shared)
    copied.frozen_stages = 0  # nothing trains any more
    return copied.eval()


@contextmanager
def _no_questions_about_sizes() -> Iterator[None]:
    """Tracing in which PyTorch itself does not ask whether a size is 1.

    It would, to choose a kernel for attention. The choice is no part of the graph: it is made again when that runs.
    """
    oblivious = shape_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with oblivious, sdpa_kernel(SDPBackend.MATH):
        yield


@dataclass(frozen=True)
class Traced:
    """A graph, the open axes of its input by place, and the names of its outputs.

    Outputs are logits ``[B, num_classes]``, pooled features ``[B, num_features]`` without a head, or a backbone's maps
    ``[B, C, *grid]``, called by their stages.
    """

    program: ExportedProgram
    axes: dict[int, Any]
    outputs: tuple[str, ...]


def trace(model: SwinStages) -> Traced:
    """Graph of ``model``'s forward pass for input ``[B, C_in, *size]``, all of B and size open.

    Only standard (aten) operators occur. Paths of the machine that traces are left out.
    """
    frozen, config = Frozen(model), model.config
    dtype = next(frozen.parameters()).dtype
    example = torch.zeros(2, config.in_channels, *_EXAMPLE[: config.ndim], dtype=dtype, device="cpu")
    axes = {2 + i: Dim(name, min=1, max=MAX_SIZE) for i, name in enumerate(AXES[-config.ndim :])}
    axes[0] = Dim("batch", min=1, max=MAX_BATCH)
    with torch.no_grad(), _no_questions_about_sizes():
        program = torch.export.export(frozen, (example,), dynamic_shapes=(axes,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    if isinstance(model, SwinBackbone):
        outputs = tuple(f"stage{index}" for index in model.out_indices)
    else:
        outputs = ("logits" if config.num_classes else "features",)
    return Traced(program, axes, outputs)

"""Relative position bias (paper, section 3.3): a module that yields the offset table ``[heads, *(2w-1)]`` of its
window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinv2.config import Axes, SwinConfig
from swinv2.geometry import linear_coordinates, log_coordinates
from swinv2.precision import at_least_fp32, without_autocast

HIDDEN = 512
"""Width of the bias network in every released model."""


class PositionBias(nn.Module, ABC):
    """Base of all position biases. Called without arguments, it returns fp32 ``[heads, *(2w-1)]``.

    In evaluation without gradients the table is computed once and kept. It is recomputed when a parameter changed,
    and dropped by `train`, loading, and moves of the module; it is no part of state_dict, copies or pickles.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: _Kept | None = None

    @abstractmethod
    def compute(self) -> Tensor:
        """The table from the parameters."""

    def forward(self) -> Tensor:
        if torch.compiler.is_compiling():
            return self.compute()
        if self.training or torch.is_grad_enabled():
            self._drop()
            return self.compute()
        if self._kept is None or not self._kept.is_current(self):
            self._kept = _Kept.make(self)
        return self.compute() if self._kept is None else self._kept.table

    def _drop(self) -> None:
        self._kept = None

    def train(self, mode: bool = True) -> PositionBias:
        self._drop()
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PositionBias:
        self._drop()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._drop()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


class _Kept:
    """A table and what it was computed from."""

    def __init__(self, table: Tensor, parameters: list[nn.Parameter]) -> None:
        self.table = table
        self._states = [(p, p.data_ptr(), p._version, _snapshot(p)) for p in parameters]

    @classmethod
    def make(cls, module: PositionBias) -> _Kept | None:
        """None where it cannot be kept: fake or sharded tensors, or parameters made in inference mode."""
        parameters = list(module.parameters())
        if any(type(p) is not nn.Parameter or p.is_inference() for p in parameters):
            return None
        with torch.inference_mode(False), torch.no_grad():
            table = module.compute()
        return cls(table, parameters) if type(table) is Tensor else None

    def is_current(self, module: PositionBias) -> bool:
        """Whether no parameter changed. Writes through ``.data`` raise no version, so on the CPU the values decide."""
        now = list(module.parameters())
        return len(now) == len(self._states) and all(
            parameter is p
            and p.data_ptr() == pointer
            and p._version == version
            and (copy is None or torch.equal(p, copy))
            for parameter, (p, pointer, version, copy) in zip(now, self._states, strict=True)
        )


def _snapshot(parameter: nn.Parameter) -> Tensor | None:
    """The values, where comparing with them costs no wait for a device."""
    return parameter.detach().clone() if parameter.device.type == "cpu" else None


class TableBias(PositionBias):
    """V1: one learned number per head and offset."""

    def __init__(self, window: Axes, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(heads, *(2 * w - 1 for w in window)))

    def compute(self) -> Tensor:
        return self.table.to(at_least_fp32(self.table.dtype))

    def forward(self) -> Tensor:
        return self.compute()  # nothing to keep


class ContinuousBias(PositionBias):
    """A small network over coordinates of the offset, ``16 * sigmoid(mlp(x))``: extends to any window (CPB).

    The 16 sigmoid is the released code's, not the paper's. The network runs in fp32 under autocast.
    """

    def __init__(self, window: Axes, trained_window: Axes, heads: int, coordinates: Callable[..., Tensor]) -> None:
        super().__init__()
        self.window, self.trained_window, self.coordinates = window, trained_window, coordinates
        first, last = nn.Linear(len(window), HIDDEN), nn.Linear(HIDDEN, heads, bias=False)
        self.mlp: Any = nn.Sequential(first, nn.ReLU(), last)

    def compute(self) -> Tensor:
        first, last = self.mlp[0], self.mlp[2]
        dtype = at_least_fp32(first.weight.dtype)
        weight, bias, last_weight = first.weight.to(dtype), first.bias.to(dtype), last.weight.to(dtype)
        with without_autocast(weight.device):
            x = self.coordinates(self.window, self.trained_window, weight.device).to(dtype)
            x = F.linear(F.relu(F.linear(x, weight, bias)), last_weight)
            return 16 * x.sigmoid().movedim(-1, 0)

    def extra_repr(self) -> str:
        return f"window={self.window}, trained_window={self.trained_window}, {self.coordinates.__name__}"


def make_position_bias(config: SwinConfig, stage: int) -> PositionBias:
    """Position bias of a stage's blocks."""
    window, heads = config.window_size[stage], config.num_heads[stage]
    if config.position_bias == "table":
        return TableBias(window, heads)
    coordinates = {"linear_cpb": linear_coordinates, "log_cpb": log_coordinates}[config.position_bias]
    return ContinuousBias(window, config.trained_window_size[stage], heads, coordinates)

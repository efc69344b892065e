"""What the studies of position biases have alike: their kinds, wider windows, and models without any bias."""

from __future__ import annotations

import torch
from torch import nn

from swinv2.config import Stages
from swinv2.model.position_bias import PositionBias

KINDS = {"table": "parameterised", "linear_cpb": "linear CPB", "log_cpb": "log CPB"}
"""Values of `SwinConfig.position_bias`, and what the paper calls them."""


def scaled(windows: Stages, ratio: float) -> Stages:
    """Windows of every stage times a ratio, rounded."""
    return tuple(tuple(max(1, round(ratio * size)) for size in axes) for axes in windows)


def leave_out_bias(model: nn.Module) -> None:
    """Make every position bias of a model zero, for good."""
    for module in model.modules():
        if isinstance(module, PositionBias):
            module.register_forward_hook(lambda module, arguments, table: torch.zeros_like(table))

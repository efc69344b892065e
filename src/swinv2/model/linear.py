"""`torch.nn.Linear` by `swinv2.ops.linear`."""

from __future__ import annotations

from torch import Tensor, nn

from swinv2.ops.linear import linear


class Linear(nn.Linear):
    """``[..., in]`` to ``[..., out]``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer is what it was made as: nobody replaced it, or waits to see its result."""
    return type(layer) is kind and not layer._forward_hooks and not layer._forward_pre_hooks

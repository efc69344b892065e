"""`torch.nn.Linear` by `swinv2.ops.linear`."""

from __future__ import annotations

from torch import Tensor, nn

from swinv2.ops.linear import linear


class Linear(nn.Linear):
    """``[..., in]`` to ``[..., out]``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

"""Initial weights, as the released code draws them."""

from __future__ import annotations

import math

from torch import nn

from swinv2.model.attention import QKV, WindowAttention
from swinv2.model.block import Residual
from swinv2.model.position_bias import TableBias


def init_weights(model: nn.Module) -> None:
    """Linear layers and bias tables from a normal of 0.02 truncated at +-2, biases 0, logit scales log 10.

    Norms start at 1, but those on a branch's output (res_post, sandwich) at 0, so that every block starts as the
    identity. The patch convolution keeps PyTorch's default.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            biases = (module.q_bias, module.v_bias) if isinstance(module, QKV) else ()
            for bias in (module.bias, *biases):
                if bias is not None:
                    nn.init.zeros_(bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, TableBias):
            nn.init.trunc_normal_(module.table, std=0.02)
        elif isinstance(module, WindowAttention) and module.logit_scale is not None:
            nn.init.constant_(module.logit_scale, math.log(10.0))
    for module in model.modules():
        if isinstance(module, Residual) and isinstance(module.norm_branch, nn.LayerNorm):
            nn.init.zeros_(module.norm_branch.weight)

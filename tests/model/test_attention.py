import math

import pytest
import torch

from swinv2.config import SwinConfig
from swinv2.model.attention import QKV, WindowAttention
from swinv2.ops import window_attention

CONFIG = SwinConfig(embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4)


def attention(**fields):
    torch.manual_seed(0)
    module = WindowAttention(SwinConfig(**{**CONFIG.to_dict(), **fields}), stage=0, shifted=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5)
    return module


@pytest.mark.parametrize(
    ("log_scale", "factor"), [(math.log(7.0), 7.0), (4.7, 100.0), (20.0, 100.0), (-3.0, math.exp(-3))]
)
def test_logit_scale_is_clamped_from_above_only(log_scale, factor):
    module = attention()
    module.logit_scale.data.fill_(log_scale)
    x = torch.randn(1, 6, 7, 16)
    qkv = module.qkv(x).unflatten(-1, (3, 2, 8))
    out = window_attention(qkv, module.position_bias(), (4, 4), (2, 2), torch.full((2,), factor))
    torch.testing.assert_close(module(x), module.proj(out.flatten(-2)))


def test_dot_product_attention_has_no_logit_scale():
    module = attention(attention_score="dot")
    assert module.logit_scale is None
    x = torch.randn(1, 6, 7, 16)
    out = window_attention(module.qkv(x).unflatten(-1, (3, 2, 8)), module.position_bias(), (4, 4), (2, 2))
    torch.testing.assert_close(module(x), module.proj(out.flatten(-2)))


def test_without_a_key_bias_the_keys_third_has_none():
    qkv = QKV(16, key_bias=False)
    torch.nn.init.ones_(qkv.q_bias)
    torch.nn.init.ones_(qkv.v_bias)
    assert qkv(torch.zeros(16)).tolist() == [1.0] * 16 + [0.0] * 16 + [1.0] * 16
    assert {name for name, _ in qkv.named_parameters()} == {"weight", "q_bias", "v_bias"}
    assert {name for name, _ in QKV(16, key_bias=True).named_parameters()} == {"weight", "bias"}


def test_odd_blocks_shift_by_half_a_window():
    config = SwinConfig(**{**CONFIG.to_dict(), "window_size": ((5, 8), (5, 8))})
    assert WindowAttention(config, 0, shifted=True).shift == (2, 4)
    assert WindowAttention(config, 0, shifted=False).shift == (0, 0)

import pytest
import torch
from torch import nn

from swinv2.model.detect.global_attention import GlobalAttention


def test_as_torchs_own_attention(spread):
    layer = spread(GlobalAttention(64))
    own = nn.MultiheadAttention(64, 2, batch_first=True)
    own.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.proj.weight,
            "out_proj.bias": layer.proj.bias,
        }
    )
    x = torch.randn(2, 64, 3, 5)
    tokens = layer.norm(x.flatten(2).transpose(1, 2))
    want = x + own(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)


def test_tokens_beyond_an_image_do_not_matter_to_it(spread):
    layer = spread(GlobalAttention(32))
    x = torch.randn(2, 32, 4, 6)
    sizes = [(4, 6), (3, 2)]
    other = x.clone()
    other[1, :, 3:], other[1, :, :, 2:] = torch.randn(32, 1, 6), torch.randn(32, 4, 4)
    before, after = layer(x, sizes), layer(other, sizes)
    torch.testing.assert_close(before[0], after[0])
    torch.testing.assert_close(before[1, :, :3, :2], after[1, :, :3, :2])
    torch.testing.assert_close(before[1, :, :3, :2], layer(x[1:, :, :3, :2])[0])
    assert not torch.allclose(layer(x)[1, :, :3, :2], layer(other)[1, :, :3, :2])
    torch.testing.assert_close(layer(x, [(4, 6), (4, 6)]), layer(x))


@pytest.mark.parametrize(("channels", "heads"), [(768, 24), (64, 2), (20, 1), (100, 2), (7, 1)])
def test_heads_of_32_channels_or_more(channels, heads):
    assert GlobalAttention(channels).num_heads == heads

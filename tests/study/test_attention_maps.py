from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor

from swinv2.config import SwinConfig
from swinv2.model import SwinTransformer
from swinv2.model.attention import WindowAttention
from swinv2.study.attention_maps import Looked, attention_of, look, rollout

CASES = {
    "plain": ((8, 8), False),
    "shifted": ((8, 8), True),
    "padded": ((7, 10), False),
    "shifted and padded": ((7, 10), True),
    "smaller than the window": ((3, 9), True),
}


def module(randomise: Callable, shifted: bool, **fields: object) -> WindowAttention:
    config = SwinConfig(embed_dim=8, depths=(1,), num_heads=(2,), window_size=4, **fields)  # type: ignore[arg-type]
    made: WindowAttention = randomise(WindowAttention(config, 0, shifted)).eval()
    return made


def dense(looked: Looked) -> Tensor:
    """Attention of every token to every other, ``[heads, T, T]``."""
    count = prod(looked.grid)
    whole = torch.zeros(looked.probabilities.shape[1], count, count)
    for tokens, window in zip(looked.tokens, looked.probabilities, strict=True):
        for query, token in enumerate(tokens.tolist()):
            if token >= 0:
                real = tokens >= 0
                whole[:, token, tokens[real]] = window[:, query, real]
    return whole


@pytest.mark.parametrize(("grid", "shifted"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("fields", [{}, {"attention_score": "dot", "position_bias": "table", "key_bias": True}])
@torch.no_grad()
def test_probabilities_times_values_are_what_the_module_computes(
    randomise: Callable, grid: tuple[int, int], shifted: bool, fields: dict[str, object]
) -> None:
    attention = module(randomise, shifted, **fields)
    x = torch.randn(1, *grid, 8)
    looked = attention_of(attention, x, 0)
    values = attention.qkv(x).unflatten(-1, (3, 2, 4))[..., 2, :, :].reshape(-1, 2, 4)
    mixed = torch.einsum("hqk,khd->qhd", dense(looked), values).reshape(1, *grid, 8)
    torch.testing.assert_close(attention.proj(mixed), attention(x))
    torch.testing.assert_close(dense(looked).sum(-1), torch.ones(2, prod(grid)))


@torch.no_grad()
def test_a_query_sees_its_row(randomise: Callable) -> None:
    looked = attention_of(module(randomise, True), torch.randn(1, 7, 10, 8), 0)
    assert looked.of_query(23).shape == (2, 7, 10)
    torch.testing.assert_close(looked.of_query(23).flatten(1), dense(looked)[:, 23])


@torch.no_grad()
def test_weights_go_back_by_the_mean_of_the_heads(randomise: Callable) -> None:
    looked = attention_of(module(randomise, True), torch.randn(1, 7, 10, 8), 0)
    weights = torch.rand(7, 10)
    expected = weights.flatten() @ dense(looked).mean(0)
    torch.testing.assert_close(looked.back(weights).flatten(), expected)


def test_rollout_of_two_tokens_by_hand() -> None:
    both = torch.tensor([[0, 1]])
    first = Looked(0, (1, 2), torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]]), both)  # all look at the first token
    second = Looked(0, (1, 2), torch.tensor([[[[0.5, 0.5], [0.5, 0.5]]]]), both)
    # [.5, .5] stays through the second block; through the first, half of the second token's half goes to the first.
    torch.testing.assert_close(rollout([first, second], (2, 2)), torch.tensor([[0.75, 0.25]]))


def test_rollout_spreads_over_merged_tokens_that_are_there() -> None:
    one = Looked(1, (1, 2), torch.eye(2)[None, None], torch.tensor([[0, 1]]))
    before = Looked(0, (1, 3), torch.eye(3)[None, None], torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(rollout([before, one], (2, 2)), torch.tensor([[0.25, 0.25, 0.5]]))


@pytest.mark.parametrize("size", [(32, 32), (30, 44)])
def test_rollout_of_a_model_is_a_share_of_each_token(randomise: Callable, size: tuple[int, int]) -> None:
    config = SwinConfig(embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, patch_size=(2, 2))
    model = randomise(SwinTransformer(config)).eval()
    looked = look(model, torch.randn(1, 3, *size))
    assert [each.stage for each in looked] == [0, 0, 1, 1]
    share = rollout(looked, config.merge_size)
    assert share.shape == looked[0].grid
    assert share.min() > 0
    assert share.sum().item() == pytest.approx(1.0)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_equal_attention_gives_equal_shares() -> None:
    """Logits are all the same where queries, keys and biases are 0."""
    config = SwinConfig(
        embed_dim=8,
        depths=(2, 2),
        num_heads=(1, 2),
        window_size=4,
        patch_size=(2, 2),
        attention_score="dot",
        position_bias="table",
    )
    model = SwinTransformer(config).eval()
    with torch.no_grad():
        for attention in model.modules():
            if isinstance(attention, WindowAttention):
                attention.qkv.weight.zero_()
                attention.position_bias.table.zero_()
    share = rollout(look(model, torch.randn(1, 3, 32, 32)), config.merge_size)
    torch.testing.assert_close(share, torch.full((16, 16), 1 / 256))

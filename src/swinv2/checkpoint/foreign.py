"""Other libraries' parameter names and layouts, as tables, and one engine that reads and writes them.

A table names what a library calls each part of a Swin; the engine walks a configuration and pairs every native
parameter with its foreign one, so that a conversion is strict in both directions: each key is used, or named in the
error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from swinv2.config import SwinConfig

BUFFERS = ("relative_coords_table", "relative_position_index", "attn_mask", "k_bias")
"""Last parts of the names of tensors that follow from the configuration and are dropped."""


BRANCH_NORMS = {"pre": "norm_before", "res_post": "norm_branch"}
"""The one norm of a branch, where a foreign model has one."""


@dataclass(frozen=True)
class Layout:
    """What a library calls the parts.

    Placeholders: ``{i}`` stage and ``{j}`` block, from 0; ``{twice}``, ``{twice_less_1}`` and ``{twice_plus_1}`` of the
    stage, since torchvision numbers stages and mergings in one row.
    """

    embed: tuple[str, str]  # projection, norm
    block: str
    merge: str  # of the merging that leads into stage i
    norm: str
    head: str
    mlp: tuple[str, str]
    joint_bias: bool  # torchvision V2: one qkv bias whose key third is zero, where others have q_bias and v_bias


TIMM = Layout(
    embed=("patch_embed.proj", "patch_embed.norm"),
    block="layers.{i}.blocks.{j}",
    merge="layers.{i}.downsample",
    norm="norm",
    head="head.fc",
    mlp=("mlp.fc1", "mlp.fc2"),
    joint_bias=False,
)
TORCHVISION = Layout(
    embed=("features.0.0", "features.0.2"),
    block="features.{twice_plus_1}.{j}",
    merge="features.{twice}",
    norm="norm",
    head="head",
    mlp=("mlp.0", "mlp.3"),
    joint_bias=True,
)
TORCHVISION_VIDEO = Layout(
    embed=("patch_embed.proj", "patch_embed.norm"),
    block="features.{twice}.{j}",
    merge="features.{twice_less_1}",
    norm="norm",
    head="head",
    mlp=("mlp.0", "mlp.3"),
    joint_bias=True,
)


@dataclass(frozen=True)
class Entry:
    """Native parameters, the foreign one that holds them, and the way there and back."""

    native: tuple[str, ...]
    foreign: str
    read: Callable[[Tensor], tuple[Tensor, ...]]
    write: Callable[..., Tensor]


def to_native(state: Mapping[str, Tensor], layout: Layout, config: SwinConfig) -> dict[str, Tensor]:
    """Parameters of a foreign state dict under our names and shapes.

    Raises:
        ValueError: a parameter of ``config`` is missing, or a tensor is left over; the sentence names them.
    """
    left = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in BUFFERS}
    table = list(entries(layout, config))
    missing = [entry.foreign for entry in table if entry.foreign not in left]
    if missing:
        raise ValueError(f"The weights lack {_some(missing)}, which this configuration needs.")
    native: dict[str, Tensor] = {}
    for entry in table:
        native.update(zip(entry.native, entry.read(left.pop(entry.foreign)), strict=True))
    if left:
        raise ValueError(f"The weights hold {_some(sorted(left))}, which this configuration does not have.")
    return native


def to_foreign(state: Mapping[str, Tensor], layout: Layout, config: SwinConfig) -> dict[str, Tensor]:
    """The inverse of `to_native`.

    Raises:
        ValueError: ``layout`` has no name for a parameter.
    """
    named = {name for entry in entries(layout, config) for name in entry.native}
    if state.keys() != named:
        raise ValueError(f"This format has no name for {_some(sorted(state.keys() - named))}.")
    return {entry.foreign: entry.write(*(state[name] for name in entry.native)) for entry in entries(layout, config)}


def entries(layout: Layout, config: SwinConfig) -> Iterator[Entry]:
    """Every native parameter of ``config`` that ``layout`` knows, paired with its place there."""
    if config.norm_placement not in BRANCH_NORMS:
        raise ValueError(f"No other library has norm_placement {config.norm_placement!r}: save it in our own format.")
    yield from _rename("patch_embed.projection", layout.embed[0])
    yield from _rename("patch_embed.norm", layout.embed[1])
    for i, depth in enumerate(config.depths):
        numbers = {"i": i, "twice": 2 * i, "twice_less_1": 2 * i - 1, "twice_plus_1": 2 * i + 1}
        if i:
            norm = f"stages.{i}.merge.norm_{config.merge_norm}"
            merge = layout.merge.format(**numbers)
            yield from _rename(f"stages.{i}.merge.reduction", f"{merge}.reduction", ("weight",))
            yield from _rename(norm, f"{merge}.norm")
        for j in range(depth):
            yield from _block(f"stages.{i}.blocks.{j}", layout.block.format(j=j, **numbers), layout, config, i)
    yield from _rename("norm", layout.norm)
    if config.num_classes:
        yield from _rename("head", layout.head)


def _block(native: str, foreign: str, layout: Layout, config: SwinConfig, stage: int) -> Iterator[Entry]:
    attention, attn = f"{native}.attention.body", f"{foreign}.attn"
    norm = BRANCH_NORMS[config.norm_placement]
    yield from _rename(f"{native}.attention.{norm}", f"{foreign}.norm1")
    yield from _rename(f"{native}.mlp.{norm}", f"{foreign}.norm2")
    yield from _rename(f"{attention}.qkv", f"{attn}.qkv", ("weight",))
    biases = (f"{attention}.qkv.q_bias", f"{attention}.qkv.v_bias")
    if config.key_bias:
        yield from _rename(f"{attention}.qkv", f"{attn}.qkv", ("bias",))
    elif layout.joint_bias:
        yield Entry(biases, f"{attn}.qkv.bias", _without_key, _with_key)
    else:
        yield from (_same(name, f"{attn}.{name.rpartition('.')[2]}") for name in biases)
    yield from _rename(f"{attention}.proj", f"{attn}.proj")
    yield from _rename(f"{native}.mlp.body.fc1", f"{foreign}.{layout.mlp[0]}")
    yield from _rename(f"{native}.mlp.body.fc2", f"{foreign}.{layout.mlp[1]}")
    if config.attention_score == "cosine":
        yield Entry(
            (f"{attention}.logit_scale",), f"{attn}.logit_scale", lambda x: (x.flatten(),), lambda x: x.view(-1, 1, 1)
        )
    if config.position_bias == "table":
        yield _table(f"{attention}.position_bias.table", f"{attn}.relative_position_bias_table", config, stage)
    else:
        for layer, parts in (("0", ("weight", "bias")), ("2", ("weight",))):
            yield from _rename(f"{attention}.position_bias.mlp.{layer}", f"{attn}.cpb_mlp.{layer}", parts)


def _table(native: str, foreign: str, config: SwinConfig, stage: int) -> Entry:
    sizes = [2 * w - 1 for w in config.window_size[stage]]
    return Entry((native,), foreign, lambda x: (x.mT.reshape(-1, *sizes),), lambda x: x.reshape(-1, prod(sizes)).mT)


def _rename(native: str, foreign: str, parts: tuple[str, ...] = ("weight", "bias")) -> Iterator[Entry]:
    yield from (_same(f"{native}.{part}", f"{foreign}.{part}") for part in parts)


def _same(native: str, foreign: str) -> Entry:
    return Entry((native,), foreign, lambda x: (x,), lambda x: x)


def _without_key(bias: Tensor) -> tuple[Tensor, Tensor]:
    q, _, v = bias.chunk(3)
    return q, v


def _with_key(q: Tensor, v: Tensor) -> Tensor:
    return torch.cat((q, torch.zeros_like(q), v))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

"""The engine behind the tables of `swinv2.checkpoint.layouts`: it pairs every native parameter with its foreign ones.

A conversion is strict in both directions: each key is used, or named in the error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from swinv2.checkpoint.layouts import BUFFERS, Layout
from swinv2.config import NormPlacement, SwinConfig
from swinv2.storage import some

BRANCH_NORMS: dict[NormPlacement, str] = {"pre": "before", "res_post": "branch"}
"""The one norm of a branch, where a foreign model has one."""


@dataclass(frozen=True)
class Transform:
    """Native tensors from foreign ones, and back."""

    read: Callable[..., tuple[Tensor, ...]]
    write: Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Entry:
    """Native parameters, the foreign ones that hold them, and the way there and back."""

    native: tuple[str, ...]
    foreign: tuple[str, ...]
    transform: Transform


def _with_key(q: Tensor, v: Tensor) -> tuple[Tensor]:
    return (torch.cat((q, torch.zeros_like(q), v)),)


SAME = Transform(lambda x: (x,), lambda x: (x,))
LOGIT_SCALE = Transform(lambda x: (x.flatten(),), lambda x: (x.view(-1, 1, 1),))
JOINT_BIAS = Transform(lambda x: (x.chunk(3)[0], x.chunk(3)[2]), _with_key)
THIRDS = Transform(lambda q, k, v: (torch.cat((q, k, v)),), lambda x: x.chunk(3))
MASK_TOKEN = Transform(lambda x: (x.flatten(),), lambda x: (x.view(1, 1, -1),))
UNFOLDED_COLUMNS = Transform(
    lambda x: (x.unflatten(1, (-1, 2, 2)).permute(0, 3, 2, 1).flatten(1),),
    lambda x: (x.unflatten(1, (2, 2, -1)).permute(0, 3, 2, 1).flatten(1),),
)
UNFOLDED_ROW = Transform(
    lambda x: (x.unflatten(0, (-1, 2, 2)).permute(2, 1, 0).flatten(),),
    lambda x: (x.unflatten(0, (2, 2, -1)).permute(2, 1, 0).flatten(),),
)


def table_transform(window: tuple[int, ...]) -> Transform:
    """V1's table: ``[product of (2w-1), heads]`` elsewhere, ``[heads, *(2w-1)]`` here."""
    sizes = [2 * w - 1 for w in window]

    def read(table: Tensor) -> tuple[Tensor]:
        if table.ndim != 2 or len(table) != prod(sizes):
            raise ValueError(
                f"A position bias table of shape {tuple(table.shape)} is not one of window {window}: pass the window "
                "it was made for as trained_window_size."
            )
        return (table.mT.reshape(-1, *sizes),)

    return Transform(read, lambda x: (x.reshape(-1, prod(sizes)).mT,))


def to_native(state: Mapping[str, Tensor], layout: Layout, config: SwinConfig) -> dict[str, Tensor]:
    """Parameters of a foreign state dict under our names and shapes.

    Raises:
        ValueError: a parameter of ``config`` is missing, or a tensor is left over; the sentence names them.
    """
    left = parameters(state, layout)
    table = list(entries(layout, config, left))
    missing = [name for entry in table for name in entry.foreign if name not in left]
    if missing:
        raise ValueError(f"The weights lack {some(missing)}, which this configuration needs.")
    native: dict[str, Tensor] = {}
    for entry in table:
        tensors = [left.pop(name) for name in entry.foreign]
        native.update(zip(entry.native, entry.transform.read(*tensors), strict=True))
    if left:
        raise ValueError(f"The weights hold {some(sorted(left))}, which this configuration does not have.")
    return native


def to_foreign(state: Mapping[str, Tensor], layout: Layout, config: SwinConfig) -> dict[str, Tensor]:
    """The inverse of `to_native`.

    Raises:
        ValueError: ``layout`` has no name for a parameter.
    """
    table = list(entries(layout, config, state))
    nameless = state.keys() - {name for entry in table for name in entry.native}
    if nameless:
        raise ValueError(f"The {layout.format} format has no name for {some(sorted(nameless))}.")
    foreign: dict[str, Tensor] = {}
    for entry in table:
        tensors = entry.transform.write(*(state[name] for name in entry.native))
        foreign.update(zip(entry.foreign, tensors, strict=True))
    return foreign


def parameters(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """A foreign state dict without buffers, its other spellings made one; a tensor that is there in both keeps its
    own.
    """
    return {canonical(name, state, layout): tensor for name, tensor in state.items() if not is_buffer(name, tensor)}


def is_buffer(name: str, tensor: Tensor) -> bool:
    """Whether a tensor follows from the configuration; a bias of V2's keys does if it is zero."""
    last = name.rpartition(".")[2]
    return last in BUFFERS and not (last == "k_bias" and bool(tensor.any()))


def canonical(name: str, state: Mapping[str, Tensor], layout: Layout) -> str:
    """The spelling of ``layout`` for a name in ``state``; the name itself where the other is there too."""
    spelled = name
    for pattern, replacement in layout.aliases:
        spelled = re.sub(pattern, replacement, spelled)
    return name if spelled in state else spelled


def numbers(stage: int, stages: int, block: int = 0) -> dict[str, int]:
    """What the numbered placeholders of a `Layout` stand for."""
    return {
        "i": stage,
        "j": block,
        "before": stage - 1,
        "twice": 2 * stage,
        "twice_less_1": 2 * stage - 1,
        "twice_plus_1": 2 * stage + 1,
        "last": stages - 1,
    }


def entries(layout: Layout, config: SwinConfig, present: Mapping[str, Tensor]) -> Iterator[Entry]:
    """Every native parameter of ``config``, paired with its place in ``layout``.

    What is no part of a backbone (mask token and decoder of SimMIM) is paired where ``present``, a state dict of
    either side, holds it.
    """
    stages = config.num_stages
    yield from _layer("patch_embed.projection", layout.embed)
    yield from _layer("patch_embed.norm", layout.embed_norm)
    for i, depth in enumerate(config.depths):
        if i:
            yield from _merge(layout, config, i)
        for j in range(depth):
            foreign = layout.block.format(**numbers(i, stages, j))
            yield from _block(f"stages.{i}.blocks.{j}", foreign, layout, config, i, j)
    yield from _layer("norm", layout.norm.format(**numbers(stages - 1, stages)))
    if config.num_classes and layout.head:
        yield from _layer("head", layout.head)
    decoder = [f"{name}.{part}" for name in ("decoder", layout.decoder) for part in ("weight", "bias")]
    decodes = layout.decoder is not None and not present.keys().isdisjoint(decoder)
    if layout.mask_token and (decodes or {"mask_token", layout.mask_token} & present.keys()):
        yield Entry(("mask_token",), (layout.mask_token,), SAME if layout.own else MASK_TOKEN)
    if layout.decoder and decodes:
        yield from _layer("decoder", layout.decoder)


def _merge(layout: Layout, config: SwinConfig, stage: int) -> Iterator[Entry]:
    where = {**numbers(stage, config.num_stages), "merge": config.merge_norm}
    reduction, norm = layout.reduction.format(**where), layout.merge_norm.format(**where)
    columns, row = SAME, SAME
    if layout.unfolded_merge:
        columns, row = UNFOLDED_COLUMNS, UNFOLDED_ROW if config.merge_norm == "before" else SAME
    yield from _layer(f"stages.{stage}.merge.reduction", reduction, ("weight",), columns)
    yield from _layer(f"stages.{stage}.merge.norm_{config.merge_norm}", norm, transform=row)


def _block(native: str, foreign: str, layout: Layout, config: SwinConfig, stage: int, block: int) -> Iterator[Entry]:
    attention, norm = f"{native}.attention.body", BRANCH_NORMS[config.norm_placement]
    for ours, theirs in (
        (f"{native}.attention.norm_{norm}", layout.norm1),
        (f"{native}.mlp.norm_{norm}", layout.norm2),
        (f"{attention}.proj", layout.proj),
        (f"{native}.mlp.body.fc1", layout.fc1),
        (f"{native}.mlp.body.fc2", layout.fc2),
    ):
        yield from _layer(ours, f"{foreign}.{theirs.format(norm=norm)}")
    yield from _projection(f"{attention}.qkv", foreign, layout, config)
    if config.attention_score == "cosine":
        scale = SAME if layout.own else LOGIT_SCALE
        yield Entry((f"{attention}.logit_scale",), (f"{foreign}.{layout.logit_scale}",), scale)
    if config.position_bias == "table":
        form = SAME if layout.own else table_transform(config.window_size[stage])
        yield Entry((f"{attention}.position_bias.table",), (f"{foreign}.{layout.table}",), form)
    else:
        yield from _layer(f"{attention}.position_bias.mlp.0", f"{foreign}.{layout.cpb}.0")
        yield from _layer(f"{attention}.position_bias.mlp.2", f"{foreign}.{layout.cpb}.2", ("weight",))
    if layout.extra_norm and config.extra_norm_interval and (block + 1) % config.extra_norm_interval == 0:
        yield from _layer(f"{native}.extra_norm", f"{foreign}.{layout.extra_norm}")


def _projection(native: str, foreign: str, layout: Layout, config: SwinConfig) -> Iterator[Entry]:
    biases = (f"{native}.q_bias", f"{native}.v_bias")
    joint = f"{foreign}.{layout.qkv}"
    if layout.projection == "split":
        for part in ("weight", "bias") if config.key_bias else ("weight",):
            parts = tuple(f"{joint}.{name}.{part}" for name in ("query", "key", "value"))
            yield Entry((f"{native}.{part}",), parts, THIRDS)
    else:
        yield from _layer(native, joint, ("weight", "bias") if config.key_bias else ("weight",))
    if config.key_bias:
        return
    if layout.projection == "joint_bias":
        yield Entry(biases, (f"{joint}.bias",), JOINT_BIAS)
    else:
        for ours, theirs in zip(biases, (layout.q_bias, layout.v_bias), strict=True):
            yield Entry((ours,), (f"{foreign}.{theirs}",), SAME)


def _layer(
    native: str, foreign: str, parts: tuple[str, ...] = ("weight", "bias"), transform: Transform = SAME
) -> Iterator[Entry]:
    yield from (Entry((f"{native}.{part}",), (f"{foreign}.{part}",), transform) for part in parts)

"""Which format a state dict has, and the architecture that its tensors tell.

Every layout is tried: its block names give the depths, shapes give the rest, and the names of that architecture are
compared with those in hand, all of them. A format is recognised when none is missing and none is left over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from swinv2.checkpoint.buffers import square_window, stored_windows
from swinv2.checkpoint.layouts import FORMATS, LAYOUTS, Layout
from swinv2.checkpoint.mapping import canonical, entries, is_buffer, numbers
from swinv2.config import AttentionScore, Axes, SwinConfig
from swinv2.storage import some

WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
"""Prefixes that wrappers put before every name."""

REFUSED = (
    (r"\.meta_mlp\.", "swinv2_cr: another parameterisation (other bias network, other norms), not convertible; take "
     "timm's swinv2_* weights instead"),
    (r"(^|\.)absolute_pos_embed$|embeddings\.position_embeddings$", "absolute position embeddings, which no "
     "published Swin uses and this library does not have"),
)  # fmt: skip
"""Names that show an architecture which only looks like ours, and what to say of it."""


@dataclass(frozen=True)
class Recognised:
    """A state dict's format, parameters and architecture; windows are None where the tensors do not tell them."""

    layout: Layout
    state: Mapping[str, Tensor]
    fields: Mapping[str, Any]
    windows: tuple[Axes | None, ...]
    trained_windows: tuple[Axes | None, ...]
    square_windows: tuple[Axes | None, ...] = ()
    """What V1's tables alone suggest."""


def recognise(state: Mapping[str, Tensor]) -> Recognised:
    """Format and architecture of a state dict.

    Raises:
        ValueError: it is none that is known, or of an architecture that is not Swin V1 or V2; the sentence names the
            nearest format and what is missing or left over.
    """
    state = unwrap(state)
    for pattern, what in REFUSED:
        if any(re.search(pattern, name) for name in state):
            raise ValueError(f"These weights are of a model with {what}.")
    attempts = [attempt for layout in LAYOUTS if (attempt := _attempt(layout, state)) is not None]
    if not attempts:
        raise ValueError(
            f"These are no weights of a Swin in a known format ({', '.join(FORMATS)}): their names are such as "
            f"{some(sorted(state))}."
        )
    nearest = min(attempts, key=lambda attempt: len(attempt.missing) + len(attempt.left))
    if nearest.missing or nearest.left:
        lacks = f"lack {some(sorted(nearest.missing))}" if nearest.missing else ""
        holds = f"hold {some(sorted(nearest.left))}, which has no place there" if nearest.left else ""
        raise ValueError(
            f"These weights look like those of the {nearest.found.layout.format} format, but "
            f"{' and '.join(filter(None, (lacks, holds)))}."
        )
    return nearest.found


def unwrap(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what DataParallel, torch.compile or Lightning put before or into all of them."""
    names = dict(state)
    if any("_orig_mod." in name for name in names):
        names = {name.replace("_orig_mod.", ""): tensor for name, tensor in names.items()}
    prefix = next((p for p in WRAPPERS if names and all(name.startswith(p) for name in names)), None)
    if prefix is None:
        return names
    return unwrap({name.removeprefix(prefix): tensor for name, tensor in names.items()})


@dataclass(frozen=True)
class _Attempt:
    found: Recognised
    missing: frozenset[str]
    left: frozenset[str]


def _attempt(layout: Layout, state: Mapping[str, Tensor]) -> _Attempt | None:
    """The state dict read as ``layout``; None where it holds no blocks of that kind."""
    spelled = {canonical(name, state, layout): name for name, tensor in state.items() if not is_buffer(name, tensor)}
    named = {name: state[original] for name, original in spelled.items()}
    depths = _depths(layout, named)
    if not depths:
        return None
    fields = _fields(layout, named, depths)
    if fields is None:
        return None
    windows, trained = stored_windows({**state, **named}, layout, depths, len(fields["patch_size"]))
    expected = {name for entry in entries(layout, SwinConfig(**fields), named) for name in entry.foreign}
    return _Attempt(
        Recognised(layout, named, fields, tuple(windows), tuple(trained), _squares(layout, named, fields)),
        frozenset(expected - named.keys()),
        frozenset(spelled[name] for name in named.keys() - expected),
    )


def _depths(layout: Layout, named: Mapping[str, Tensor]) -> Axes:
    """Blocks of each stage, counted from 0 without a gap."""
    parts = {name[: dot.start()] for name in named for dot in re.finditer(r"\.", name)}

    def count(stage: int) -> int:
        block = 0
        while layout.block.format(**numbers(stage, 1, block)) in parts:
            block += 1
        return block

    depths: list[int] = []
    while depth := count(len(depths)):
        depths.append(depth)
    return tuple(depths)


def _fields(layout: Layout, named: Mapping[str, Tensor], depths: Axes) -> dict[str, Any] | None:
    """Fields of `SwinConfig` from the shapes, wherever one is left; None where the blocks are of another kind."""
    stages = [[layout.block.format(**numbers(i, len(depths), j)) for j in range(depths[i])] for i in range(len(depths))]
    blocks = [block for stage in stages for block in stage]
    cosine = _first(named, blocks, layout.logit_scale) is not None
    table = _first(named, blocks, layout.table) is not None
    score: AttentionScore = "cosine" if cosine else "dot"
    heads = [_heads(layout, named, stage) for stage in stages]
    embed = named.get(f"{layout.embed}.weight")
    width = _first(named, [layout.embed_norm, layout.embed], "weight", "bias")
    hidden = _first(named, stages[0], f"{layout.fc1}.weight", f"{layout.fc1}.bias")
    if score not in layout.scores or width is None or hidden is None or None in heads:
        return None
    if 0 in (len(width), len(hidden), *heads):
        return None
    if embed is not None and embed.ndim - 2 not in layout.axes:
        return None
    head = _first(named, [layout.head], "weight", "bias") if layout.head else None
    patch = (4,) * layout.axes[0] if embed is None else tuple(embed.shape[2:])
    fields: dict[str, Any] = {
        "embed_dim": width.shape[0],
        "in_channels": 3 if embed is None else embed.shape[1],
        "patch_size": patch,
        "depths": depths,
        "num_heads": tuple(heads),
        "mlp_ratio": hidden.shape[0] / width.shape[0],
        "num_classes": 0 if head is None else head.shape[0],
        "attention_score": score,
        "position_bias": "table" if table else "log_cpb",
        "key_bias": _key_bias(layout, named, blocks, cosine),
        "norm_placement": "res_post" if cosine else "pre",
        "extra_norm_interval": _extra_norm_interval(layout, named, depths),
        "merge_norm": "after" if cosine else "before",
        "merge_size": (1, 2, 2) if len(patch) == 3 else None,
    }
    return {**fields, **_own_norms(layout, named, blocks)}


def _squares(layout: Layout, named: Mapping[str, Tensor], fields: Mapping[str, Any]) -> tuple[Axes | None, ...]:
    """Window of each stage that the number of rows of its first table suggests."""
    depths, axes = fields["depths"], len(fields["patch_size"])
    blocks = [layout.block.format(**numbers(i, len(depths))) for i in range(len(depths))]
    tables = [_first(named, [block], layout.table) for block in blocks]
    return tuple(None if table is None or layout.own else square_window(len(table), axes) for table in tables)


def _first(named: Mapping[str, Tensor], parents: Sequence[str], *names: str) -> Tensor | None:
    """The first tensor of such a name below any of the parents; a bare number tells nothing."""
    found = (named.get(f"{parent}.{name}") for parent in parents for name in names)
    return next((tensor for tensor in found if tensor is not None and tensor.ndim), None)


def _heads(layout: Layout, named: Mapping[str, Tensor], blocks: Sequence[str]) -> int | None:
    """Heads of a stage, from whatever tells them."""
    rows = _first(named, blocks, layout.logit_scale, f"{layout.cpb}.2.weight")
    if rows is not None:
        return rows.shape[0]
    table = _first(named, blocks, layout.table)
    return None if table is None else table.shape[0 if layout.own else -1]


def _key_bias(layout: Layout, named: Mapping[str, Tensor], blocks: Sequence[str], cosine: bool) -> bool:
    if layout.projection == "joint_bias":  # torchvision has the tensor in any case
        return not cosine
    key = f"{layout.qkv}.key.bias" if layout.projection == "split" else f"{layout.qkv}.bias"
    return _first(named, blocks, key) is not None


def _extra_norm_interval(layout: Layout, named: Mapping[str, Tensor], depths: Axes) -> int:
    """Number of the first block that has an extra norm; 0 without any."""
    found = [
        j + 1
        for i, depth in enumerate(depths)
        for j in range(depth)
        if f"{layout.block.format(**numbers(i, len(depths), j))}.{layout.extra_norm}.weight" in named
    ]
    return min(found, default=0) if layout.extra_norm else 0


def _own_norms(layout: Layout, named: Mapping[str, Tensor], blocks: Sequence[str]) -> dict[str, str]:
    """Our own names show where norms stand, so that pre and res_post are told apart."""
    if not layout.own:
        return {}
    before = _first(named, blocks, "attention.norm_before.weight", "mlp.norm_before.weight") is not None
    fields = {"norm_placement": "pre" if before else "res_post"}
    for place in ("before", "after"):
        if f"stages.1.merge.norm_{place}.weight" in named:
            fields["merge_norm"] = place
    return fields

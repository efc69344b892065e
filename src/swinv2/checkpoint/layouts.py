"""What each library calls the parts of a Swin: one table a format, and nothing else.

Names are templates. ``{i}`` is the stage and ``{j}`` the block, from 0; ``{before}``, ``{twice}``, ``{twice_less_1}``
and ``{twice_plus_1}`` follow from the stage (Microsoft puts a merging at the end of the stage before, torchvision
numbers stages and mergings in one row); ``{last}`` is the last stage; ``{norm}`` and ``{merge}`` are the places of our
own norms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from swinv2.config import AttentionScore

BUFFERS = ("relative_coords_table", "relative_position_index", "attn_mask", "k_bias")
"""Last parts of the names of tensors that follow from the configuration and are no parameters."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Names of one format. Those of a block's parts stand below its own."""

    format: str
    embed: str = "patch_embed.proj"
    embed_norm: str = "patch_embed.norm"
    block: str = "layers.{i}.blocks.{j}"
    reduction: str  # of the merging that leads into stage i
    merge_norm: str
    norm: str = "norm"
    head: str | None = "head"
    norm1: str = "norm1"
    norm2: str = "norm2"
    extra_norm: str | None = None
    qkv: str = "attn.qkv"
    q_bias: str = "attn.q_bias"
    v_bias: str = "attn.v_bias"
    proj: str = "attn.proj"
    logit_scale: str = "attn.logit_scale"
    table: str = "attn.relative_position_bias_table"
    cpb: str = "attn.cpb_mlp"
    fc1: str = "mlp.fc1"
    fc2: str = "mlp.fc2"
    mask_token: str | None = None
    decoder: str | None = None
    projection: Literal["fused", "joint_bias", "split"] = "fused"
    """One qkv matrix (with q_bias and v_bias where the key has none); the same with one bias whose key third is zero;
    or three matrices called query, key and value."""
    unfolded_merge: bool = False
    """Whether merged columns run channel by channel (nn.Unfold) instead of neighbour by neighbour."""
    own: bool = False
    """Whether tensors have our own shapes."""
    axes: tuple[int, ...] = (2,)
    scores: tuple[AttentionScore, ...] = ("dot", "cosine")
    written_buffers: tuple[str, ...] = ()
    """Buffers that the installed class keeps in its state dict."""
    flat_index: bool = False
    """Whether relative_position_index is stored as one row."""
    aliases: tuple[tuple[str, str], ...] = ()
    """Other spellings that occur, as regular expressions with their replacement."""


OWN = Layout(
    format="swinv2",
    embed="patch_embed.projection",
    block="stages.{i}.blocks.{j}",
    reduction="stages.{i}.merge.reduction",
    merge_norm="stages.{i}.merge.norm_{merge}",
    norm1="attention.norm_{norm}",
    norm2="mlp.norm_{norm}",
    extra_norm="extra_norm",
    qkv="attention.body.qkv",
    q_bias="attention.body.qkv.q_bias",
    v_bias="attention.body.qkv.v_bias",
    proj="attention.body.proj",
    logit_scale="attention.body.logit_scale",
    table="attention.body.position_bias.table",
    cpb="attention.body.position_bias.mlp",
    fc1="mlp.body.fc1",
    fc2="mlp.body.fc2",
    mask_token="mask_token",
    decoder="decoder",
    own=True,
    axes=(1, 2, 3),
)
MICROSOFT = Layout(
    format="microsoft",
    reduction="layers.{before}.downsample.reduction",
    merge_norm="layers.{before}.downsample.norm",
    extra_norm="enorm",
    written_buffers=("relative_coords_table", "relative_position_index"),
    aliases=((r"\.rpe_mlp\.", ".cpb_mlp."),),
)
SIMMIM = replace(
    MICROSOFT,
    embed="encoder.patch_embed.proj",
    embed_norm="encoder.patch_embed.norm",
    block="encoder.layers.{i}.blocks.{j}",
    reduction="encoder.layers.{before}.downsample.reduction",
    merge_norm="encoder.layers.{before}.downsample.norm",
    norm="encoder.norm",
    head=None,
    mask_token="encoder.mask_token",
    decoder="decoder.0",
)
TIMM = Layout(
    format="timm",
    reduction="layers.{i}.downsample.reduction",
    merge_norm="layers.{i}.downsample.norm",
    head="head.fc",
)
TORCHVISION = Layout(
    format="torchvision",
    embed="features.0.0",
    embed_norm="features.0.2",
    block="features.{twice_plus_1}.{j}",
    reduction="features.{twice}.reduction",
    merge_norm="features.{twice}.norm",
    fc1="mlp.0",
    fc2="mlp.3",
    projection="joint_bias",
    written_buffers=("relative_coords_table", "relative_position_index"),
    flat_index=True,
)
TORCHVISION_VIDEO = replace(
    TORCHVISION,
    embed="patch_embed.proj",
    embed_norm="patch_embed.norm",
    block="features.{twice}.{j}",
    reduction="features.{twice_less_1}.reduction",
    merge_norm="features.{twice_less_1}.norm",
    axes=(3,),
    scores=("dot",),
    flat_index=False,
)


def _transformers(prefix: str, scores: tuple[AttentionScore, ...], **names: str | None) -> Layout:
    return Layout(
        format="transformers",
        embed=f"{prefix}embeddings.patch_embeddings.projection",
        embed_norm=f"{prefix}embeddings.norm",
        block=f"{prefix}encoder.layers.{{i}}.blocks.{{j}}",
        reduction=f"{prefix}encoder.layers.{{before}}.downsample.reduction",
        merge_norm=f"{prefix}encoder.layers.{{before}}.downsample.norm",
        norm=f"{prefix}layernorm",
        head=names.get("head"),
        norm1="layernorm_before",
        norm2="layernorm_after",
        qkv="attention.self",
        q_bias="attention.self.query.bias",
        v_bias="attention.self.value.bias",
        proj="attention.output.dense",
        logit_scale="attention.self.logit_scale",
        table="attention.self.relative_position_bias_table",
        cpb="attention.self.continuous_position_bias_mlp",
        fc1="intermediate.dense",
        fc2="output.dense",
        mask_token=f"{prefix}embeddings.mask_token",
        decoder=names.get("decoder"),
        projection="split",
        scores=scores,
        aliases=(
            (r"\.attention\.q_proj\.", ".attention.self.query."),
            (r"\.attention\.k_proj\.", ".attention.self.key."),
            (r"\.attention\.v_proj\.", ".attention.self.value."),
            (r"\.attention\.o_proj\.", ".attention.output.dense."),
            (r"\.attention\.relative_position_bias\.", ".attention.self."),
            (r"\.attention\.(logit_scale$|continuous_position_bias_mlp\.)", r".attention.self.\1"),
            (r"\.mlp\.fc1\.", ".intermediate.dense."),
            (r"\.mlp\.fc2\.", ".output.dense."),
        ),
    )


TRANSFORMERS_BARE = _transformers("", ("dot", "cosine"))
TRANSFORMERS_V1 = _transformers("swin.", ("dot",), head="classifier", decoder="decoder.0")
TRANSFORMERS_V2 = _transformers("swinv2.", ("cosine",), head="classifier", decoder="decoder.0")


def _mmpretrain(prefix: str, head: str | None, score: AttentionScore) -> Layout:
    """V1 merges at the end of a stage, V2 at the start of the next."""
    stage = "{before}" if score == "dot" else "{i}"
    return Layout(
        format="mmpretrain",
        embed=f"{prefix}patch_embed.projection",
        embed_norm=f"{prefix}patch_embed.norm",
        block=f"{prefix}stages.{{i}}.blocks.{{j}}",
        reduction=f"{prefix}stages.{stage}.downsample.reduction",
        merge_norm=f"{prefix}stages.{stage}.downsample.norm",
        norm=f"{prefix}norm{{last}}",
        head=head,
        extra_norm=None if score == "dot" else "norm3",
        qkv="attn.w_msa.qkv",
        q_bias="attn.w_msa.q_bias",
        v_bias="attn.w_msa.v_bias",
        proj="attn.w_msa.proj",
        logit_scale="attn.w_msa.logit_scale",
        table="attn.w_msa.relative_position_bias_table",
        cpb="attn.w_msa.cpb_mlp",
        fc1="ffn.layers.0.0",
        fc2="ffn.layers.1",
        unfolded_merge=True,
        scores=(score,),
    )


LAYOUTS = (
    OWN,
    MICROSOFT,
    SIMMIM,
    TIMM,
    TORCHVISION,
    TORCHVISION_VIDEO,
    TRANSFORMERS_BARE,
    TRANSFORMERS_V1,
    TRANSFORMERS_V2,
    _mmpretrain("", None, "dot"),
    _mmpretrain("", None, "cosine"),
    _mmpretrain("backbone.", "head.fc", "dot"),
    _mmpretrain("backbone.", "head.fc", "cosine"),
)
"""All of them. Of those with one format, writing takes the first that can hold the weights."""

FORMATS = tuple(dict.fromkeys(layout.format for layout in LAYOUTS))
"""Names of the formats that can be read and written."""

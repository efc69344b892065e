"""What a recipe trades for memory within one device: recomputed blocks, and attention that keeps no scores."""

from __future__ import annotations

from swinv2.config import did_you_mean
from swinv2.model.block import SwinBlock
from swinv2.model.stages import SwinStages
from swinv2.ops.dispatch import BACKENDS
from swinv2.train.options import AttentionOptions, CheckpointingOptions


def economise(model: SwinStages, checkpointing: CheckpointingOptions, attention: AttentionOptions) -> None:
    """Set which blocks are computed again in the backward pass, and which backend runs attention in each stage.

    Raises:
        ValueError: There is no such backend or stage.
    """
    if attention.backend not in {"auto", *BACKENDS}:
        raise ValueError(
            f"attention.backend {attention.backend!r} does not exist{did_you_mean(attention.backend, BACKENDS)}: "
            f"use auto, {', '.join(BACKENDS)}."
        )
    last = model.num_stages - 1
    odd = [stage for stage in attention.stages or () if not 0 <= stage <= last]
    if odd:
        raise ValueError(f"attention.stages has {odd[0]}, but the model has stages 0 to {last}: remove it.")
    model.set_attention_backend(attention.backend, stages=attention.stages)
    for number, stage in enumerate(model.stages):
        within = checkpointing.stages is None or number < checkpointing.stages
        for index, block in enumerate(module for module in stage.modules() if isinstance(module, SwinBlock)):
            block.checkpointing = within and checkpointing.every > 0 and index % checkpointing.every == 0

"""What a recipe trades for memory within one device: recomputed blocks, and attention that keeps no scores."""

from __future__ import annotations

from swinv2.model.block import SwinBlock
from swinv2.model.stages import SwinStages
from swinv2.train.engine_options import AttentionOptions, CheckpointingOptions


def economise(model: SwinStages, checkpointing: CheckpointingOptions, attention: AttentionOptions) -> None:
    """Set which blocks are computed again in the backward pass, and which backend runs attention in each stage.

    Raises:
        ValueError: There is no such backend or stage, or the budget is none.
    """
    model.set_attention_backend(attention.backend, stages=attention.stages, budget_mb=attention.budget_mb)
    for number, stage in enumerate(model.stages):
        within = checkpointing.stages is None or number < checkpointing.stages
        for index, block in enumerate(module for module in stage.modules() if isinstance(module, SwinBlock)):
            block.checkpointing = within and checkpointing.every > 0 and index % checkpointing.every == 0

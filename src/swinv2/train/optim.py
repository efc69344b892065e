"""AdamW with the published weight-decay groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from functools import partial

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from swinv2.model.position_bias import PositionBias
from swinv2.train.options import ClassifyRecipe, ScheduleOptions

REFERENCE_BATCH = 512
"""Images a step for which recipes state their learning rates."""


def undecayed(model: nn.Module) -> set[str]:
    """Names of the parameters without weight decay: position biases, and 1-D ones (norms, biases, logit scales)."""
    position_biases = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, PositionBias)
        for name, _ in module.named_parameters()
    }
    return position_biases | {name for name, parameter in model.named_parameters() if parameter.ndim <= 1}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: with `weight_decay`, and without any."""
    exempt = undecayed(model)
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [p for name, p in trainable if name not in exempt], "weight_decay": weight_decay},
        {"params": [p for name, p in trainable if name in exempt], "weight_decay": 0.0},
    ]


def learning_rate(step: int, *, peak: float, options: ScheduleOptions, warmup: int, total: int) -> float:
    """Learning rate of `step`, counted from 0, for 512 images a step.

    The warm-up rises linearly over `warmup` steps; the curve runs over the `total - warmup` that remain.
    """
    if step < warmup:
        return options.warmup_lr + (peak - options.warmup_lr) * step / warmup
    done = min((step - warmup) / max(total - warmup, 1), 1.0)
    left = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[options.kind]
    return options.min_lr + (peak - options.min_lr) * left


def optimise(model: nn.Module, *, recipe: ClassifyRecipe, total_steps: int) -> OptimizerLRSchedulerConfig:
    """The recipe's optimiser and its schedule over `total_steps`, as Lightning wants them."""
    options, schedule, trainer = recipe.optimizer, recipe.schedule, recipe.trainer
    optimizer = AdamW(
        parameter_groups(model, options.weight_decay),
        lr=options.base_lr * trainer.batch_size / REFERENCE_BATCH,
        betas=options.betas,
        eps=options.eps,
        fused=trainer.precision != "16-mixed",  # a fused step would unscale fp16 gradients after they are clipped
    )
    warmup = round(total_steps * schedule.warmup_epochs / trainer.epochs)
    curve = partial(learning_rate, peak=options.base_lr, options=schedule, warmup=warmup, total=total_steps)
    scheduler = LambdaLR(optimizer, lambda step: curve(step) / options.base_lr)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

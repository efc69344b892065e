"""AdamW with the published groups of weight and layer decay, and the learning rate as a pure function of the step."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from swinv2.model.position_bias import PositionBias
from swinv2.train.engine_options import ScheduleOptions
from swinv2.train.options import Recipe
from swinv2.train.strategies import make_adamw

REFERENCE_BATCH = 512
"""Images a step for which recipes state their learning rates."""


BACKBONE = "backbone."
"""Beginning of the names of a backbone's parameters, in models that put a head of their own on one."""

MASK_TOKEN = "mask_token"
BLOCK = re.compile(r"(?:^|\.)stages\.(\d+)\.blocks\.(\d+)\.")
MERGE = re.compile(r"(?:^|\.)stages\.(\d+)\.merge\.")
FIRST = re.compile(rf"(?:^|\.)(?:patch_embed\.|{MASK_TOKEN}$)")


def undecayed(model: nn.Module) -> set[str]:
    """Names of the parameters without weight decay: position biases, mask tokens, and 1-D ones (norms, biases, logit
    scales).
    """
    position_biases = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, PositionBias)
        for name, _ in module.named_parameters()
    }
    others = {name for name, p in model.named_parameters() if p.ndim <= 1 or name.split(".")[-1] == MASK_TOKEN}
    return position_biases | others


def layer_ids(model: nn.Module) -> dict[str, int]:
    """The layer of each parameter, for layer-wise decay of the learning rate, numbered as in the released code.

    Patch embedding and mask token are 0; block k, counted over all stages, is k + 1; what merges patches goes with the
    last block before it; the final norm and every head are one more than the last block. Where there is a backbone, all
    beside it is head.
    """
    names = [name for name, _ in model.named_parameters()]
    body = {name for name in names if name.startswith(BACKBONE)} or set(names)
    blocks = sorted({(int(found[1]), int(found[2])) for found in map(BLOCK.search, body) if found})

    def layer(name: str) -> int:
        if name not in body:
            return len(blocks) + 1
        if found := BLOCK.search(name):
            return blocks.index((int(found[1]), int(found[2]))) + 1
        if found := MERGE.search(name):
            return bisect.bisect_left(blocks, (int(found[1]), 0))
        return 0 if FIRST.search(name) else len(blocks) + 1

    return {name: layer(name) for name in names}


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    base_lr: float = 1.0,
    layer_decay: float | None = None,
    backbone_lr_factor: float | None = None,
) -> list[dict[str, Any]]:
    """Trainable parameters by weight decay (the given one, then none) and learning rate, the backbone's factor in it.

    Args:
        model: Whose parameters.
        weight_decay: Of those that are not `undecayed`.
        base_lr: Learning rate of the last layer.
        layer_decay: Factor from a layer's learning rate to that of the one before; None for one rate.
        backbone_lr_factor: Factor on all learning rates of what is under ``model.backbone``; None for none.

    Raises:
        ValueError: There is a factor for a backbone, but none in the model.
    """
    if backbone_lr_factor is not None and not any(name.startswith(BACKBONE) for name, _ in model.named_parameters()):
        raise ValueError(
            f"optimizer.backbone_lr_factor {backbone_lr_factor} is for a backbone under a head of its own, which this "
            "model is not: set it to null, or use optimizer.layer_decay."
        )
    exempt, layers = undecayed(model), layer_ids(model)
    top = max(layers.values())
    groups: dict[tuple[bool, int, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        below = 0 if layer_decay is None else top - layers[name]
        decay = 0.0 if name in exempt else weight_decay
        factor = (backbone_lr_factor or 1.0) if name.startswith(BACKBONE) else 1.0
        rate = base_lr * factor * (layer_decay or 1.0) ** below
        fresh = {"params": [], "weight_decay": decay, "lr": rate, "factor": factor}
        groups.setdefault((name in exempt, below, factor), fresh)["params"].append(parameter)
    return list(groups.values())


def learning_rate(
    step: int, *, peak: float, options: ScheduleOptions, warmup: int, total: int, epochs: int = 1
) -> float:
    """Learning rate of `step`, counted from 0, for 512 images a step.

    The warm-up rises linearly over `warmup` steps; the curve runs over the `total - warmup` that remain, but the epochs
    of a multi-step curve count from the start of training (where that has as many epochs as steps, they are steps).
    """
    if step < warmup:
        return options.warmup_lr + (peak - options.warmup_lr) * step / warmup
    if options.kind == "multistep":
        steps = [round(total * epoch / epochs) for epoch in options.milestones]
        return peak * options.decay ** bisect.bisect_right(steps, step)
    done = min((step - warmup) / max(total - warmup, 1), 1.0)
    curves = {
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "linear": 1 - done,
        "poly": (1 - done) ** options.power,
        "constant": 1.0,
    }
    left = curves[options.kind]
    return options.min_lr + (peak - options.min_lr) * left


def optimise(model: nn.Module, *, recipe: Recipe, total_steps: int) -> OptimizerLRSchedulerConfig:
    """The recipe's optimiser and its schedule over `total_steps`, as Lightning wants them.

    As in the released code, layer decay scales the peak of a layer's schedule, not its first and its last rate; the
    backbone's factor scales all of it.
    """
    options, trainer = recipe.optimizer, recipe.trainer
    scale = trainer.batch_size / REFERENCE_BATCH
    groups = parameter_groups(
        model, options.weight_decay, options.base_lr * scale, options.layer_decay, options.backbone_lr_factor
    )
    optimizer = make_adamw(
        groups,
        trainer,
        lr=options.base_lr * scale,
        betas=options.betas,
        eps=options.eps,
        fused=_fused(model, trainer.precision),
    )
    warmup = warmup_steps(recipe, total_steps)
    curve = partial(learning_rate, options=recipe.schedule, warmup=warmup, total=total_steps, epochs=trainer.total)
    factors = [_relative(curve, group["lr"] / (scale * group["factor"])) for group in optimizer.param_groups]
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"}}


def _relative(curve: Callable[..., float], peak: float) -> Callable[[int], float]:
    return lambda step: curve(step, peak=peak) / peak


def _fused(model: nn.Module, precision: str) -> bool:
    """A fused step would unscale fp16 gradients after they are clipped; and not every device has one."""
    devices = {parameter.device.type for parameter in model.parameters()}
    return precision != "16-mixed" and devices <= {"cpu", "cuda"}


def warmup_steps(recipe: Recipe, total_steps: int) -> int:
    """Steps of the warm-up.

    Raises:
        ValueError: It would take all of training.
    """
    schedule = recipe.schedule
    if schedule.warmup_steps is None:
        return round(total_steps * schedule.warmup_epochs / recipe.trainer.total)
    if schedule.warmup_steps >= total_steps:
        raise ValueError(
            f"schedule.warmup_steps {schedule.warmup_steps} takes all of the {total_steps} steps of training: shorten "
            "it, or give schedule.warmup_epochs instead."
        )
    return schedule.warmup_steps

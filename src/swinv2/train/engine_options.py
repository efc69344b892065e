"""How a recipe trains, whatever its task: optimiser, schedule, length, devices and memory as plain data. No torch here.

The command line shows the `Args` sections as help. Defaults are the released ImageNet-1K recipe of Swin V2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strategy = Literal["auto", "ddp", "zero1", "deepspeed", "fsdp"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """AdamW; learning rates are given for 512 images a step and scale with trainer.batch_size.

    Args:
        base_lr: Highest learning rate, for 512 images a step.
        weight_decay: Decay of matrices; biases, norms, position biases and logit scales have none.
        betas: Adam's moving averages.
        eps: Adam's epsilon.
        clip_norm: Largest gradient norm; null does not clip.
        layer_decay: Factor from the learning rate of each block to that of the block before it; null for one rate.
        backbone_lr_factor: Factor on the learning rate of the backbone, of models that put a head of their own on one;
            null for one rate.
    """

    base_lr: float = 5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float | None = 5.0
    layer_decay: float | None = None
    backbone_lr_factor: float | None = None

    def __post_init__(self) -> None:
        if self.base_lr <= 0:
            raise ValueError(f"optimizer.base_lr {self.base_lr} is not positive: 5e-4 is the published value.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"optimizer.clip_norm {self.clip_norm} is not positive: use null not to clip.")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"optimizer.layer_decay {self.layer_decay} is outside (0, 1]: 0.75 is the published value."
            )
        if self.backbone_lr_factor is not None and self.backbone_lr_factor <= 0:
            raise ValueError(
                f"optimizer.backbone_lr_factor {self.backbone_lr_factor} is not positive: 0.1 is the published value; "
                "model.frozen_stages stops a backbone."
            )


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Learning rate over time: a linear warm-up, then one curve over the remaining steps.

    Args:
        kind: The curve after the warm-up.
        warmup_epochs: Length of the warm-up; fractions are allowed.
        warmup_steps: Length of the warm-up in steps, instead of warmup_epochs.
        warmup_lr: Learning rate of the first step, for 512 images a step.
        min_lr: Learning rate of the last step, for 512 images a step; multistep has none.
        milestones: Epochs, or steps under trainer.steps, counted from the start of training, at which multistep lowers
            the learning rate.
        decay: What multistep multiplies it by.
        power: Exponent of poly, on the share of the curve that is left; linear has 1.
    """

    kind: Literal["cosine", "linear", "poly", "multistep", "constant"] = "cosine"
    warmup_epochs: float = 20.0
    warmup_steps: int | None = None
    warmup_lr: float = 5e-7
    min_lr: float = 5e-6
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    power: float = 0.9

    def __post_init__(self) -> None:
        for name in ("warmup_epochs", "warmup_steps"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"schedule.{name} {getattr(self, name)} is negative: use 0 for no warm-up.")
        if (self.kind == "multistep") != bool(self.milestones):
            raise ValueError(
                f"schedule.kind {self.kind} with milestones {list(self.milestones)}: multistep needs some, as [700]; "
                "other kinds take none."
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"schedule.milestones {list(self.milestones)} do not rise: sort them.")
        if self.power <= 0:
            raise ValueError(f"schedule.power {self.power} is not positive: 0.9 is usual.")


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """How long and on what to train.

    Args:
        epochs: Passes over the training images; null where steps are given.
        steps: Optimiser steps, instead of epochs.
        validate_every: Epochs between validations (null for 1), or steps where these are given; checkpoints, best
            weights and rows of metrics.csv come with them.
        batch_size: Images a step, over all devices and accumulated batches together.
        accumulate: Forward passes that share one step, for batches that do not fit into memory.
        precision: Numeric format; 32-true, or bf16-mixed and 16-mixed for mixed precision.
        accelerator: auto takes a GPU if there is one.
        devices: How many of them in each machine; auto takes all. torchrun decides it where it starts the processes.
        nodes: Machines; torchrun decides it too.
        strategy: What several devices divide among them: ddp nothing, zero1 the optimiser's states (deepspeed the same,
            by DeepSpeed), fsdp weights, gradients and states; auto is ddp.
        ema_decay: Decay of a moving average of the weights, which is then validated and kept; null for none.
        compile: Compile the model with torch.compile; of a detector, its backbone.
        save_every: Steps between checkpoints within an epoch; null saves after each validation alone.
        max_minutes: Stop after this time even if epochs are left.
    """

    epochs: int | None = 300
    steps: int | None = None
    validate_every: int | None = None
    batch_size: int = 1024
    accumulate: int = 1
    precision: Precision = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    strategy: Strategy = "auto"
    ema_decay: float | None = None
    compile: bool = False
    save_every: int | None = None
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "validate_every", "batch_size", "accumulate", "nodes", "save_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"trainer.{name} {getattr(self, name)} is too small: use 1 or more.")
        self._check_length()
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"trainer.ema_decay {self.ema_decay} is outside [0, 1): 0.9999 suits long runs, 0.99 short ones."
            )
        if self.ema_decay is not None and self.strategy in ("fsdp", "deepspeed"):
            raise ValueError(f"trainer.ema_decay needs whole weights: set it to null under strategy {self.strategy}.")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ValueError(f"trainer.max_minutes {self.max_minutes} leaves no time: use null for no limit.")

    def _check_length(self) -> None:
        if self.steps is None and self.epochs is None:
            raise ValueError("trainer.epochs and trainer.steps are both null: give one of them.")
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"trainer.steps {self.steps} stands for trainer.epochs: set trainer.epochs to null with it."
            )
        if self.steps is not None and self.validate_every is None:
            raise ValueError(
                f"trainer.steps {self.steps} needs trainer.validate_every, the steps from one validation to the next: "
                f"use {self.steps} to validate at the end alone."
            )
        if self.total % self.every:
            nearest = max(round(self.total / self.every), 1) * self.every
            given = f"trainer.{self.unit}s {self.total}"
            raise ValueError(f"{given} is no multiple of trainer.validate_every {self.every}: use {nearest}.")

    @property
    def unit(self) -> Literal["epoch", "step"]:
        """What the length is given in."""
        return "epoch" if self.steps is None else "step"

    @property
    def total(self) -> int:
        """The length, in that unit."""
        return self.steps or self.epochs or 0

    @property
    def every(self) -> int:
        """The length of a round, which a validation ends."""
        return self.validate_every or 1

    @property
    def rounds(self) -> int:
        """How many rounds there are, which Lightning calls epochs."""
        return self.total // self.every

    def after(self, rounds: int) -> str:
        """Where training is after so many rounds, for people: "epoch 3", or "step 4000"."""
        return f"{self.unit} {rounds * self.every}"

    def loader_batch(self, processes: int) -> int:
        """Images that each process loads at once, so that a step sees `batch_size` of them."""
        share, rest = divmod(self.batch_size, processes * self.accumulate)
        if rest:
            raise ValueError(
                f"trainer.batch_size {self.batch_size} cannot be shared by {processes} devices times "
                f"{self.accumulate} accumulated batches: use a multiple of {processes * self.accumulate}."
            )
        return share


@dataclass(frozen=True, kw_only=True)
class CheckpointingOptions:
    """Which blocks keep only their input and are computed again in the backward pass, which saves memory.

    Args:
        every: 1 for each block, n for every n-th of a stage, 0 for none.
        stages: Only in so many stages, from the first on, where the maps are largest; null for all.
    """

    every: int = 0
    stages: int | None = None

    def __post_init__(self) -> None:
        for name in ("every", "stages"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"checkpointing.{name} {getattr(self, name)} is negative: use 0 for none.")


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """Which backend of swinv2.ops runs attention.

    Args:
        backend: Its name, such as sequential, which needs the least memory; auto takes the fastest that can run.
        stages: The stages that it runs in, counted from 0, while auto runs in the others; null for all.
        budget_mb: MiB that sequential may take at a time, which auto then takes too; null for what suits the device.
    """

    backend: str = "auto"
    stages: tuple[int, ...] | None = None
    budget_mb: float | None = None

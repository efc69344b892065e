"""Recipes as plain data: the recipe file is `ClassifyRecipe` written as YAML. No torch here.

The command line shows the `Args` sections as help. Defaults are the released ImageNet-1K recipe of Swin V2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]

FIXED = {
    "num_classes": "the data",
    "in_channels": "preprocessing.mean and std",
    **{name: f"model.{name}" for name in ("name", "image_size", "window_size")},
}
"""Arguments of the model that no override may give, and where they come from."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model to train.

    Args:
        name: A name that `swinv2 models` lists.
        image_size: Height and width of the images, in pixels; one number makes them square.
        window_size: Attention window in tokens; by default the model's own.
        overrides: Any other field of SwinConfig, such as drop_path_rate or patch_size.
    """

    name: str = "swinv2_nano"
    image_size: int | tuple[int, int] = 256
    window_size: int | list[int | list[int]] | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, source in FIXED.items():
            if name in self.overrides:
                raise ValueError(f"model.overrides.{name} follows from {source}: remove it from the recipe.")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size


@dataclass(frozen=True, kw_only=True)
class PreprocessingOptions:
    """How pixels become the model's input.

    Args:
        mean: Mean of each channel, in units of [0, 1] pixels; as many numbers as channels (1, 3 or 4).
        std: Standard deviation of each channel, in the same units.
        crop_fraction: Share of the resized image that the centre crop of validation keeps.
        interpolation: nearest, bilinear, bicubic or lanczos.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_fraction: float = 1.0
    interpolation: str = "bicubic"

    def at(self, size: tuple[int, int]) -> Preprocessing:
        """What the weights file says about its input, which is `size` pixels high and wide."""
        return Preprocessing(size=size, **vars(self))


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """AdamW; learning rates are given for 512 images a step and scale with trainer.batch_size.

    Args:
        base_lr: Highest learning rate, for 512 images a step.
        weight_decay: Decay of matrices; biases, norms, position biases and logit scales have none.
        betas: Adam's moving averages.
        eps: Adam's epsilon.
        clip_norm: Largest gradient norm; null does not clip.
    """

    base_lr: float = 5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float | None = 5.0

    def __post_init__(self) -> None:
        if self.base_lr <= 0:
            raise ValueError(f"optimizer.base_lr {self.base_lr} is not positive: 5e-4 is the published value.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"optimizer.clip_norm {self.clip_norm} is not positive: use null not to clip.")


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Learning rate over time: a linear warm-up, then one curve over the remaining steps.

    Args:
        kind: The curve after the warm-up.
        warmup_epochs: Length of the warm-up; fractions are allowed.
        warmup_lr: Learning rate of the first step, for 512 images a step.
        min_lr: Learning rate of the last step, for 512 images a step.
    """

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_epochs: float = 20.0
    warmup_lr: float = 5e-7
    min_lr: float = 5e-6

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0:
            raise ValueError(f"schedule.warmup_epochs {self.warmup_epochs} is negative: use 0 for no warm-up.")


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """How long and on what to train.

    Args:
        epochs: Passes over the training images.
        batch_size: Images a step, over all devices and accumulated batches together.
        accumulate: Forward passes that share one step, for batches that do not fit into memory.
        precision: Numeric format; 32-true, or bf16-mixed and 16-mixed for mixed precision.
        accelerator: auto takes a GPU if there is one.
        devices: How many of them; auto takes all.
        ema_decay: Decay of a moving average of the weights, which is then validated and kept; null for none.
        compile: Compile the model with torch.compile.
        checkpointing: Recompute each block in the backward pass to save memory.
        max_minutes: Stop after this time even if epochs are left.
    """

    epochs: int = 300
    batch_size: int = 1024
    accumulate: int = 1
    precision: Precision = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = "auto"
    ema_decay: float | None = None
    compile: bool = False
    checkpointing: bool = False
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"trainer.{name} {getattr(self, name)} is too small: use 1 or more.")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"trainer.ema_decay {self.ema_decay} is outside [0, 1): 0.9999 suits long runs, 0.99 short ones."
            )
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ValueError(f"trainer.max_minutes {self.max_minutes} leaves no time: use null for no limit.")

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
class ClassifyRecipe:
    """Everything that a classification run depends on.

    Args:
        task: The kind of training; only "classify" so far.
        seed: Seed of the weights, the augmentation and the order of images.
        model: The architecture.
        preprocessing: Normalisation and validation crop.
        data: The images.
        augment: Training augmentation.
        optimizer: AdamW.
        schedule: Learning rate over time.
        trainer: Length, batch, precision and devices.
    """

    task: Literal["classify"] = "classify"
    seed: int = 0
    model: ModelOptions = field(default_factory=ModelOptions)
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)
    data: DataOptions = field(default_factory=DataOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    trainer: TrainerOptions = field(default_factory=TrainerOptions)

    def __post_init__(self) -> None:
        if self.schedule.warmup_epochs >= self.trainer.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} takes all of trainer.epochs "
                f"{self.trainer.epochs}: shorten it, as with --schedule.warmup_epochs {self.trainer.epochs / 10:g}."
            )

"""Recipes as plain data: the recipe file is `ClassifyRecipe` written as YAML. No torch here.

The command line shows the `Args` sections as help. Defaults are the released ImageNet-1K recipe of Swin V2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from swinv2.config import SwinConfig, default_image_size, did_you_mean
from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

Strategy = Literal["auto", "ddp", "zero1", "deepspeed", "fsdp"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]

FIXED = {
    "num_classes": "the data",
    "in_channels": "preprocessing.mean and std",
    **{name: f"model.{name}" for name in ("name", "image_size", "window_size")},
}
"""Arguments of the model that no override may give, and where they come from."""

DEFAULT_MODEL = "swinv2_nano"
"""The model of a recipe that gives neither a name nor weights."""

IMAGENET = Preprocessing(size=(256, 256), mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""What stands where neither the recipe nor the weights say how pixels become input; its size is not used."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model to train.

    Args:
        name: A name that `swinv2 models` lists; by default the weights' architecture, or swinv2_nano without weights.
        weights: File, folder or hub id of weights to start from, in any format that swinv2 reads; by default, training
            starts from scratch.
        weights_key: Which weights to take where the file holds several, such as state_dict_ema.
        frozen_stages: So many stages, from the first on, and the patch embedding keep the weights they have.
        image_size: Height and width of the images, in pixels; one number makes them square; by default that of the
            weights, or of the model.
        window_size: Attention window in tokens; by default that of the weights, or of the model.
        overrides: Any other field of SwinConfig, such as drop_path_rate or patch_size; trained_window_size where the
            weights do not tell it.
    """

    name: str | None = None
    weights: str | None = None
    weights_key: str | None = None
    frozen_stages: int = 0
    image_size: int | tuple[int, int] | None = None
    window_size: int | list[int | list[int]] | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frozen_stages < 0:
            raise ValueError(f"model.frozen_stages {self.frozen_stages} is negative: use 0 to train all stages.")
        known = {each.name for each in fields(SwinConfig)}
        for name in self.overrides:
            if name in FIXED:
                raise ValueError(f"model.overrides.{name} follows from {FIXED[name]}: remove it from the recipe.")
            if name not in known:
                raise ValueError(f"model.overrides.{name} is no field of SwinConfig{did_you_mean(name, known)}.")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, of a completed recipe."""
        assert self.image_size is not None
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size


@dataclass(frozen=True, kw_only=True)
class PreprocessingOptions:
    """How pixels become the model's input; what is left out is taken from model.weights, else it is ImageNet's.

    Args:
        mean: Mean of each channel, in units of [0, 1] pixels; as many numbers as channels (1, 3 or 4).
        std: Standard deviation of each channel, in the same units.
        crop_fraction: Share of the resized image that the centre crop of validation keeps; 1 without weights.
        interpolation: nearest, bilinear, bicubic or lanczos; bicubic without weights.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_fraction: float | None = None
    interpolation: str | None = None

    def __post_init__(self) -> None:
        if self.mean is not None and len(self.mean) not in (1, 3, 4):
            raise ValueError(
                f"preprocessing.mean has {len(self.mean)} numbers: give 1 (gray), 3 (RGB) or 4 (RGBA), one a channel."
            )

    def completed(self, known: Preprocessing) -> PreprocessingOptions:
        """The same with what is left out taken from `known`."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return PreprocessingOptions(**{name: given.get(name, getattr(known, name)) for name in vars(self)})


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
    """

    base_lr: float = 5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float | None = 5.0
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        if self.base_lr <= 0:
            raise ValueError(f"optimizer.base_lr {self.base_lr} is not positive: 5e-4 is the published value.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"optimizer.clip_norm {self.clip_norm} is not positive: use null not to clip.")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"optimizer.layer_decay {self.layer_decay} is outside (0, 1]: 0.75 is the published value."
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
        milestones: Epochs, counted from the start of training, at which multistep lowers the learning rate.
        decay: What multistep multiplies it by.
    """

    kind: Literal["cosine", "linear", "multistep", "constant"] = "cosine"
    warmup_epochs: float = 20.0
    warmup_steps: int | None = None
    warmup_lr: float = 5e-7
    min_lr: float = 5e-6
    milestones: tuple[float, ...] = ()
    decay: float = 0.1

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


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """How long and on what to train.

    Args:
        epochs: Passes over the training images.
        batch_size: Images a step, over all devices and accumulated batches together.
        accumulate: Forward passes that share one step, for batches that do not fit into memory.
        precision: Numeric format; 32-true, or bf16-mixed and 16-mixed for mixed precision.
        accelerator: auto takes a GPU if there is one.
        devices: How many of them in each machine; auto takes all. torchrun decides it where it starts the processes.
        nodes: Machines; torchrun decides it too.
        strategy: What several devices divide among them: ddp nothing, zero1 the optimiser's states (deepspeed the same,
            by DeepSpeed), fsdp weights, gradients and states; auto is ddp.
        ema_decay: Decay of a moving average of the weights, which is then validated and kept; null for none.
        compile: Compile the model with torch.compile.
        save_every: Steps between checkpoints within an epoch; null saves after each epoch alone.
        max_minutes: Stop after this time even if epochs are left.
    """

    epochs: int = 300
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
        for name in ("epochs", "batch_size", "accumulate", "nodes", "save_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"trainer.{name} {getattr(self, name)} is too small: use 1 or more.")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"trainer.ema_decay {self.ema_decay} is outside [0, 1): 0.9999 suits long runs, 0.99 short ones."
            )
        if self.ema_decay is not None and self.strategy in ("fsdp", "deepspeed"):
            raise ValueError(f"trainer.ema_decay needs whole weights: set it to null under strategy {self.strategy}.")
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


@dataclass(frozen=True, kw_only=True)
class SimMIMOptions:
    """Pre-training by painting what is masked (arXiv 2111.09886), for task simmim alone.

    Args:
        mask_unit: Pixels of a masked unit, one number for every axis or one per axis; a multiple of the model's patch
            that divides the image size.
        mask_ratio: Share of the units that is masked.
        target_window: Pixels of the window over which each target pixel is normalised, odd; null leaves targets as they
            are.
    """

    mask_unit: int | tuple[int, ...] = 32
    mask_ratio: float = 0.6
    target_window: int | None = 47


@dataclass(frozen=True, kw_only=True)
class ClassifyRecipe:
    """Everything that a run depends on, of classification or of SimMIM pre-training.

    Args:
        task: The kind of training: classify, or simmim for pre-training without labels.
        seed: Seed of the weights, the augmentation and the order of images.
        model: The architecture.
        preprocessing: Normalisation and validation crop.
        data: The images.
        augment: Training augmentation.
        optimizer: AdamW.
        schedule: Learning rate over time.
        trainer: Length, batch, precision and devices.
        checkpointing: Which blocks are computed again in the backward pass.
        attention: Which backend runs attention.
        simmim: Masks and targets of task simmim.
    """

    task: Literal["classify", "simmim"] = "classify"
    seed: int = 0
    model: ModelOptions = field(default_factory=ModelOptions)
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)
    data: DataOptions = field(default_factory=DataOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    trainer: TrainerOptions = field(default_factory=TrainerOptions)
    checkpointing: CheckpointingOptions = field(default_factory=CheckpointingOptions)
    attention: AttentionOptions = field(default_factory=AttentionOptions)
    simmim: SimMIMOptions = field(default_factory=SimMIMOptions)

    def __post_init__(self) -> None:
        self._check_task()
        if self.schedule.warmup_steps is None and self.schedule.warmup_epochs >= self.trainer.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} takes all of trainer.epochs "
                f"{self.trainer.epochs}: shorten it, as with --schedule.warmup_epochs {self.trainer.epochs / 10:g}."
            )

    def _check_task(self) -> None:
        """ValueError for options that the task would not heed."""
        if self.task == "classify" and self.simmim != SimMIMOptions():
            raise ValueError("the simmim options are of task simmim: remove them, or set task to simmim.")
        for name in ("mixup", "cutmix", "label_smoothing"):
            if self.task == "simmim" and getattr(self.augment, name):
                raise ValueError(
                    f"augment.{name} {getattr(self.augment, name)} mixes or smooths labels, which simmim has none of: "
                    f"set augment.{name} to 0."
                )

    @property
    def input(self) -> Preprocessing:
        """What images go through before the model; of a completed recipe."""
        return Preprocessing(size=self.model.size, **vars(self.preprocessing))

    def completed(self, known: Preprocessing | None = None) -> ClassifyRecipe:
        """The same with image size and preprocessing filled in where they are left out.

        Args:
            known: The preprocessing of the weights to start from; None where they do not say it, or where there are
                none: then the size is the model's own, and the rest ImageNet's.

        Raises:
            ValueError: The weights do not say their image size, and the recipe gives none.
        """
        model = self.model
        if not model.weights:
            model = replace(model, name=model.name or DEFAULT_MODEL)
        if model.image_size is None:
            model = replace(model, image_size=_own_size(model, known))
        return replace(self, model=model, preprocessing=self.preprocessing.completed(known or IMAGENET))


def _own_size(model: ModelOptions, known: Preprocessing | None) -> tuple[int, int]:
    if known is None and model.weights:
        raise ValueError(f"{model.weights} does not say the size of its images: give it with --model.image_size.")
    height, width = known.size if known else default_image_size(str(model.name))[-2:]
    return height, width

"""Recipes as plain data: the recipe file is `Recipe` written as YAML. No torch here.

The command line shows the `Args` sections as help. Defaults are the released ImageNet-1K recipe of Swin V2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from swinv2.config import Axes, SwinConfig, default_image_size, did_you_mean
from swinv2.data.clips import ClipOptions
from swinv2.data.detection_options import CocoLayout, DetectionAugmentOptions
from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.data.segmentation_options import LabelMapLayout, SegmentationAugmentOptions
from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from swinv2.tasks.segment.options import LossOptions
from swinv2.train.engine_options import (
    AttentionOptions,
    CheckpointingOptions,
    OptimizerOptions,
    ScheduleOptions,
    TrainerOptions,
)

TaskName = Literal["classify", "detect", "segment", "simmim", "video"]
"""What a recipe can train; a task with options of its own has a group of its name in `Recipe`."""

MUST_BE_OFF: dict[str, dict[str, str]] = {
    "simmim": dict.fromkeys(
        ("augment.mixup", "augment.cutmix", "augment.label_smoothing"),
        "mixes or smooths labels, which simmim has none of",
    )
}
"""Options of shared groups that a task cannot heed, and why: they must be 0, false or null."""

OWN_GROUPS = {task: {"augment": f"{task}.augment"} for task in ("detect", "segment")}
"""Shared groups that a task leaves alone, and what it has in their place."""

FIXED = {
    "num_classes": "the data",
    "in_channels": "preprocessing.mean and std",
    **{name: f"model.{name}" for name in ("name", "image_size", "window_size")},
}
"""Arguments of the model that no override may give, and where they come from."""

DEFAULT_MODELS = {2: "swinv2_nano", 3: "swinv2_video_nano"}
"""The model, by the axes of its input, of a recipe that gives neither a name nor weights."""

IMAGENET = Preprocessing(size=(256, 256), mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""What stands where neither the recipe nor the weights say how pixels become input; its size is not used."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model to train.

    Args:
        name: A name that `swinv2 models` lists; by default the weights' architecture, or swinv2_nano without weights
            (swinv2_video_nano for videos).
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
class DetectOptions:
    """Detection and instance segmentation, for task detect alone; its images are augmented here, not by augment.

    Args:
        detector: faster_rcnn, mask_rcnn, cascade_rcnn, cascade_mask_rcnn, htc or htc_plus_plus.
        heads: Any fields of DetectorConfig to replace, such as detections_per_image.
        layout: Where the files of the COCO data set at data.path are.
        augment: Training augmentation.
    """

    detector: str = "mask_rcnn"
    heads: dict[str, Any] = field(default_factory=dict)
    layout: CocoLayout = field(default_factory=CocoLayout)
    augment: DetectionAugmentOptions = field(default_factory=DetectionAugmentOptions)


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """Semantic segmentation by UperNet, for task segment alone; its images are augmented here, not by augment.

    Images are cropped to model.image_size in training, and seen whole in validation.

    Args:
        heads: Any fields of UperNetConfig to replace, such as channels.
        layout: Where the images and label maps at data.path are, and what the values mean.
        augment: Training augmentation.
        loss: Cross entropy of pixels, of the main and of the auxiliary head.
    """

    heads: dict[str, Any] = field(default_factory=dict)
    layout: LabelMapLayout = field(default_factory=LabelMapLayout)
    augment: SegmentationAugmentOptions = field(default_factory=SegmentationAugmentOptions)
    loss: LossOptions = field(default_factory=LossOptions)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a run depends on.

    Args:
        task: The kind of training: classify, detect, segment, video, or simmim for pre-training
            without labels.
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
        detect: Detector and augmentation of task detect.
        segment: Heads, label maps, augmentation and loss of task segment.
        simmim: Masks and targets of task simmim.
        video: Clips of task video, of which validation looks at the views.
    """

    task: TaskName = "classify"
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
    detect: DetectOptions = field(default_factory=DetectOptions)
    segment: SegmentOptions = field(default_factory=SegmentOptions)
    simmim: SimMIMOptions = field(default_factory=SimMIMOptions)
    video: ClipOptions = field(default_factory=ClipOptions)

    def __post_init__(self) -> None:
        self._check_task()
        schedule, trainer = self.schedule, self.trainer
        if trainer.epochs is None and schedule.warmup_steps is None:
            raise ValueError(
                "schedule.warmup_epochs counts epochs, but trainer.steps gives the length in steps: give "
                "schedule.warmup_steps, 0 for no warm-up."
            )
        if trainer.epochs and schedule.warmup_steps is None and schedule.warmup_epochs >= trainer.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {schedule.warmup_epochs:g} takes all of trainer.epochs {trainer.epochs}: "
                f"shorten it, as with --schedule.warmup_epochs {trainer.epochs / 10:g}."
            )

    def _check_task(self) -> None:
        """ValueError for options that the task would not heed: another task's group, or what it must have off."""
        for other in get_args(TaskName):
            group = getattr(self, other, None)
            if other != self.task and group is not None and group != type(group)():
                raise ValueError(f"the {other} options are of task {other}: remove them, or set task to {other}.")
        for name, instead in OWN_GROUPS.get(self.task, {}).items():
            group = getattr(self, name)
            if group != type(group)():
                raise ValueError(f"task {self.task} has {instead} in the place of {name}: move its options there.")
        for name, why in MUST_BE_OFF.get(self.task, {}).items():
            group_name, option = name.split(".")
            value = getattr(getattr(self, group_name), option)
            if value:
                raise ValueError(f"{name} {value} {why}: set {name} to 0.")

    @property
    def input(self) -> Preprocessing:
        """What images go through before the model; of a completed recipe."""
        return Preprocessing(size=self.model.size, **vars(self.preprocessing))

    @property
    def axes(self) -> int:
        """Of the model's input: 2 of images, 3 of clips."""
        return 3 if self.task == "video" else 2

    @property
    def input_size(self) -> Axes:
        """Size of the model's input along each axis, a clip's frames first; of a completed recipe."""
        return (self.video.frames, *self.model.size) if self.axes == 3 else self.model.size

    def completed(self, known: Preprocessing | None = None) -> Recipe:
        """The same with image size and preprocessing filled in where they are left out.

        Args:
            known: The preprocessing of the weights to start from; None where they do not say it, or where there are
                none: then the size is the model's own, and the rest ImageNet's.

        Raises:
            ValueError: The weights do not say their image size, and the recipe gives none.
        """
        model = self.model
        if not model.weights:
            model = replace(model, name=model.name or DEFAULT_MODELS[self.axes])
        if model.image_size is None:
            model = replace(model, image_size=_own_size(model, known))
        return replace(self, model=model, preprocessing=self.preprocessing.completed(known or IMAGENET))


def _own_size(model: ModelOptions, known: Preprocessing | None) -> tuple[int, int]:
    if known is None and model.weights:
        raise ValueError(f"{model.weights} does not say the size of its images: give it with --model.image_size.")
    height, width = known.size if known else default_image_size(str(model.name))[-2:]
    return height, width

"""What a recipe says about its data and their augmentation: plain data, no torch.

The command line shows the `Args` sections as help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swinv2.preprocessing import INTERPOLATIONS

Split = Literal["train", "val"]
Choice = Literal["train", "val", "all"]
Order = Literal["images", "shards", "resampled"]
Format = Literal["auto", "digits", "folder", "shards", "huggingface", "videos"]


def check_reading(val_fraction: float, workers: int) -> None:
    """ValueError for a share that cannot be held out, or a number of processes that cannot be started."""
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction {val_fraction} is outside (0, 1): 0.2 holds out a fifth.")
    if workers < 0:
        raise ValueError(f"workers {workers} is negative: use 0 to read in the main process.")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which images to read, and how.

    Args:
        path: A folder of class folders, a folder or pattern of WebDataset shards, a folder or parquet file of
            Hugging Face datasets, hf:NAME for a dataset of the hub, or digits for scikit-learn's; it must be given.
        format: The layout of path; auto recognises it. Of videos, path is a folder of class folders, a list file, or a
            folder with lists such as train.csv.
        val_fraction: Share of each class held out for validation where the dataset brings no such split.
        split_seed: Seed of that split.
        workers: Processes that read images; 0 reads in the main process.
        order: images shuffles all images; shards deals the shards of each epoch to the processes, which read their
            own from front to back, as suits slow or distant disks; resampled draws shards with replacement.
        buffer: So many images are shuffled among each other where shards are read in order.
        strict: Stop at the first unreadable or non-image file instead of skipping and listing it.
        image_column: Image column of a Hugging Face dataset; by default the only one of that type.
        label_column: Label column of a Hugging Face dataset; by default the only one of that type.
    """

    path: str = ""
    format: Format = "auto"
    val_fraction: float = 0.2
    split_seed: int = 0
    workers: int = 2
    order: Order = "images"
    buffer: int = 4096
    strict: bool = False
    image_column: str | None = None
    label_column: str | None = None

    def __post_init__(self) -> None:
        check_reading(self.val_fraction, self.workers)
        if self.buffer < 1:
            raise ValueError(f"buffer {self.buffer} holds no image: 4096 is usual, 1 does not shuffle.")


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Training augmentation; the defaults are the published ImageNet-1K recipe.

    Args:
        crop: random_resized (a random area at a random aspect), pad (resize, pad and crop at random, as for
            CIFAR) or none (the validation preprocessing).
        scale: Smallest and largest share of the image's area that random_resized keeps.
        ratio: Smallest and largest aspect (width / height) of that area.
        pad: Pixels that crop "pad" adds on every side, at the model's input size.
        hflip: Probability of a horizontal flip.
        rand_augment: timm's RandAugment string; null turns it off.
        color_jitter: Strength of brightness, contrast and saturation jitter, used only where rand_augment is off.
        erase: Probability that a random rectangle is replaced by noise.
        mixup: Alpha of mixup's Beta distribution; 0 turns it off.
        cutmix: Alpha of cutmix's Beta distribution; 0 turns it off.
        mix_prob: Probability that a batch is mixed.
        mix_switch: Probability of cutmix rather than mixup, where both are on.
        label_smoothing: Share of the target spread evenly over all classes.
        interpolation: Resampling of random_resized and rand_augment: nearest, bilinear, bicubic or lanczos.
    """

    crop: Literal["random_resized", "pad", "none"] = "random_resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    pad: int = 4
    hflip: float = 0.5
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.4
    erase: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_prob: float = 1.0
    mix_switch: float = 0.5
    label_smoothing: float = 0.1
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        for name in ("hflip", "erase", "mix_prob", "mix_switch", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is not a probability: use a number from 0 to 1.")
        for name in ("pad", "color_jitter", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} is negative: use 0 to turn it off.")
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} {(low, high)} is not a range: give a positive minimum, then a maximum.")
        if self.scale[1] > 1:
            raise ValueError(f"scale {self.scale} goes beyond the whole image: its maximum is 1.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"unknown interpolation {self.interpolation!r}: use one of {', '.join(INTERPOLATIONS)}.")

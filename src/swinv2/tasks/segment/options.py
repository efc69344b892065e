"""What a recipe says about the loss and the prediction of label maps: plain data, no torch.

The command line shows the `Args` sections as help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Cross entropy of pixels.

    Args:
        class_weights: Weight of each class, in their order; null weighs all alike.
        ohem: Let only hard pixels count: those that mmsegmentation's OHEM sampler keeps.
        ohem_threshold: A pixel is hard where its true class has a lower probability; null keeps those of highest loss.
        ohem_min_kept: At least so many pixels an image are kept, if they are labelled.
        average: labelled divides by the labelled pixels (their class weights, if there are any), as PyTorch does; all
            divides by all pixels, as the published ADE20K recipes do.
    """

    class_weights: tuple[float, ...] | None = None
    ohem: bool = False
    ohem_threshold: float | None = 0.7
    ohem_min_kept: int = 100_000
    average: Literal["labelled", "all"] = "labelled"

    def __post_init__(self) -> None:
        weights = self.class_weights
        if weights is not None and (not weights or min(weights) < 0 or not sum(weights)):
            raise ValueError(f"class_weights {weights} have a negative one, or none that counts: give one a class.")
        if self.ohem_threshold is not None and not 0 < self.ohem_threshold <= 1:
            raise ValueError(f"ohem_threshold {self.ohem_threshold} is not a probability above 0: 0.7 is usual.")
        if self.ohem_min_kept < 1:
            raise ValueError(f"ohem_min_kept {self.ohem_min_kept} keeps no pixel: 100000 is usual for 512x512.")


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a label map is predicted.

    Args:
        window: Height and width of a sliding window, in pixels; null sees the whole image at once.
        stride: Pixels between windows, at most the window; null moves by two thirds of it.
        scales: Sizes, relative to the image, at which it is seen; probabilities are averaged.
        flip: See the mirrored image as well.
        batch_size: Windows that run at once.
    """

    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.window is not None and min(self.window) < 1:
            raise ValueError(f"window {self.window} holds no pixel: give a height and a width.")
        if self.stride is not None and self.window is None:
            raise ValueError(f"stride {self.stride} moves no window: give a window too, or leave it out.")
        if self.window is not None and self.stride is not None:
            check_stride(self.window, self.stride)
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales {self.scales} are no sizes: give positive numbers, such as 0.75 1 1.25.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size} runs no window: give 1 or more.")

    @property
    def step(self) -> tuple[int, int] | None:
        """Pixels between windows, if there are any."""
        if self.window is None or self.stride is not None:
            return self.stride
        height, width = (max(side * 2 // 3, 1) for side in self.window)
        return height, width


def check_stride(window: Sequence[int], stride: Sequence[int]) -> None:
    """Raise ValueError where windows would skip pixels, or not move."""
    if any(not 1 <= step <= side for step, side in zip(stride, window, strict=True)):
        raise ValueError(f"stride {stride} skips pixels of windows of {window}: give 1 to the window's size.")

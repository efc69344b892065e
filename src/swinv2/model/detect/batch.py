"""Images of different sizes as one batch, and what may be wrong with them and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from swinv2.geometry import ceil_div
from swinv2.model.detect.config import IGNORED, DetectorConfig
from swinv2.precision import at_least_fp32

DIVISOR = 32


def pad_images(images: Sequence[Tensor], least: tuple[int, int] = (1, 1)) -> ImageList:
    """Images ``[C, H, W]`` as one batch, zeros at the right and at the bottom up to a common multiple of 32.

    Args:
        images: of any sizes, which the result tells too.
        least: height and width of the batch at least.

    Raises:
        ValueError: there are none, or one is not a floating-point ``[C, H, W]`` of the first one's channels.
    """
    if not images:
        raise ValueError("A detector needs at least one image: the list is empty.")
    for number, x in enumerate(images):
        if x.ndim != 3 or not x.is_floating_point() or x.shape[0] != images[0].shape[0] or 0 in x.shape:
            raise ValueError(
                f"image {number} is {x.dtype} of shape {tuple(x.shape)}, but must be floating point, [C, H, W] with as "
                "many channels as the others and at least one pixel: scale and normalise it first."
            )
    sizes = [(x.shape[1], x.shape[2]) for x in images]
    height, width = (ceil_div(max(axis), DIVISOR) * DIVISOR for axis in zip(*sizes, least, strict=True))
    padded = [F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images]
    return ImageList(torch.stack(padded), sizes)


def check_targets(images: Sequence[Tensor], targets: Any, config: DetectorConfig) -> list[dict[str, Tensor]]:
    """Targets that heads can learn from: boxes in the dtype of the images, fp32 at least.

    Raises:
        ValueError: something is missing, of the wrong shape, or cannot be.
    """
    if targets is None or len(targets) != len(images):
        given = "none" if targets is None else len(targets)
        raise ValueError(f"training takes one target per image: there are {len(images)} images and {given} targets.")
    checked = []
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        problem = _problem(image, target, config)
        if problem:
            raise ValueError(f"target {number} {problem}.")
        checked.append({**target, "boxes": target["boxes"].to(at_least_fp32(image.dtype))})
    return checked


def _problem(image: Tensor, target: Any, config: DetectorConfig) -> str | None:
    """What is wrong with a target, as the end of a sentence."""
    needed = ["boxes", "labels"] + ["masks"] * config.masks + ["semantic"] * (config.semantic_classes > 0)
    missing = [name for name in needed if name not in target]
    if missing:
        return f"has no {missing[0]!r}, which this detector learns from (semantic maps may be all {IGNORED})"
    count, size = len(target["boxes"]), tuple(image.shape[1:])
    shapes = {"boxes": (count, 4), "labels": (count,), "masks": (count, *size), "semantic": size}
    for name in needed:
        if tuple(target[name].shape) != shapes[name]:
            given = tuple(target[name].shape)
            return f"has {name} of shape {given}, but {count} objects on {size[0]} x {size[1]} pixels: {shapes[name]}"
    return _bad_boxes(target["boxes"], size) or _bad_labels(target, config)


def _bad_boxes(boxes: Tensor, size: Sequence[int]) -> str | None:
    far = boxes.new_tensor([size[1], size[0]])
    inside = (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, :2] < far) & (boxes[:, 2:] > 0)
    good = inside & boxes.isfinite().all(1, keepdim=True)
    if good.all():
        return None
    box = boxes[~good.all(1)][0].tolist()
    return (
        f"has the box {box}, which has no area within its image of {size[0]} x {size[1]} pixels: boxes are x1, y1, x2, "
        "y2 in pixels; drop it"
    )


def _bad_labels(target: Any, config: DetectorConfig) -> str | None:
    labels, classes = target["labels"], config.num_classes
    if labels.dtype != torch.int64 or ((labels < 1) | (labels > classes)).any():
        return f"has labels {sorted(set(labels.tolist()))} ({labels.dtype}), but they must be int64 from 1 to {classes}"
    if config.semantic_classes:
        semantic = target["semantic"]
        known = semantic[semantic != IGNORED]
        whole = semantic.dtype in (torch.uint8, torch.int64)
        if not whole or ((known < 0) | (known >= config.semantic_classes)).any():
            return (
                f"has a semantic map ({semantic.dtype}) whose labels are not uint8 or int64 from 0 to "
                f"{config.semantic_classes - 1}, and {IGNORED} for ignored pixels"
            )
    return None

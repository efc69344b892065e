"""Class probabilities of every pixel: of the whole image or a sliding window, at several sizes, mirrored or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from swinv2.data.segmentation import SegmentationBatch, by_size
from swinv2.data.segmentation_transforms import EvalTransform
from swinv2.tasks.segment.options import InferenceOptions, check_stride

Model = Callable[[Tensor], Tensor]
"""From images ``[B, C_in, H, W]`` to logits ``[B, C, H, W]``, in evaluation mode."""


def predict(
    model: Model, images: Tensor, options: InferenceOptions | None = None, size: Sequence[int] | None = None
) -> Tensor:
    """Probabilities ``[B, C, *size]``, fp32, of images that are tensors already: scales resize these.

    Args:
        model: See `Model`.
        images: ``[B, C_in, H, W]``, normalised.
        options: By default, the whole image once.
        size: Height and width of the result, where the label map has another size than the images.
    """
    options = options or InferenceOptions()
    views = (scaled(images, scale) for scale in options.scales)
    return predict_views(model, views, options, images.shape[2:] if size is None else size)


@torch.no_grad()
def predict_views(model: Model, views: Iterable[Tensor], options: InferenceOptions, size: Sequence[int]) -> Tensor:
    """Probabilities ``[B, C, *size]``, fp32: the mean over views of the same images, and over their mirror images.

    Windows overlap by the mean of their logits; logits are brought to the size before the softmax.

    Args:
        model: See `Model`.
        views: ``[B, C_in, H, W]`` each, normalised.
        options: Windows and mirror images; the views have their scales.
        size: Height and width.
    """
    total, count = torch.empty(0), 0
    for view in views:
        for mirrored in (False, True) if options.flip else (False,):
            logits = _logits(model, view.flip(3) if mirrored else view, options)
            probabilities = at_size(logits.flip(3) if mirrored else logits, size).softmax(1)
            total = total.add_(probabilities) if count else probabilities
            count += 1
    return total.div_(count)


def at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits ``[B, C, *size]``, bilinear."""
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)


def infer(
    model: nn.Module, loader: Iterable[SegmentationBatch], device: torch.device, options: InferenceOptions | None = None
) -> Iterator[tuple[SegmentationBatch, Tensor]]:
    """The images of one size of each batch, on the CPU, with probabilities of their label maps' size, on the device.

    The batches have the views of the options' scales: those of an `EvalTransform` with the same scales.
    """
    options = options or InferenceOptions()
    model = model.to(device).eval()
    dtype = next(model.parameters()).dtype
    for batch in loader:
        for part in by_size(batch):
            views = [part.images, *(images for images, _ in part.others)]
            assert len(views) == len(options.scales)
            there = (view.to(device, dtype, non_blocking=True) for view in views)
            yield part, predict_views(model, there, options, part.labels.shape[1:])


def predict_image(
    model: nn.Module, image: Image.Image, transform: EvalTransform, options: InferenceOptions | None = None
) -> Tensor:
    """Class of each pixel of an image, int64 ``[H, W]`` on the CPU, from a model in evaluation mode.

    Args:
        model: See `Model`.
        image: In the channels of the transform (`swinv2.data.image.read_image`).
        transform: What the model expects; the options have the scales.
        options: By default, the whole image once.
    """
    options, weight = options or InferenceOptions(), next(model.parameters())
    views = (view[None].to(weight) for view in replace(transform, scales=options.scales).views(image))
    return predict_views(model, views, options, (image.height, image.width))[0].argmax(0).cpu()


def scaled(images: Tensor, scale: float) -> Tensor:
    """Images at another size, bilinear and antialiased, as Pillow resizes for training."""
    if scale == 1:
        return images
    size = [max(round(side * scale), 1) for side in images.shape[2:]]
    return F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True).to(images.dtype)


@torch.no_grad()
def slide(model: Model, images: Tensor, window: Sequence[int], stride: Sequence[int], batch_size: int = 8) -> Tensor:
    """Logits ``[B, C, H, W]``, fp32: the mean over the windows that cover a pixel.

    The last window of an axis ends where the image does; a window beyond the image is the image.

    Args:
        model: See `Model`.
        images: ``[B, C_in, H, W]``.
        window: Height and width, in pixels.
        stride: Pixels from one window to the next, per axis.
        batch_size: Windows that run at once.

    Raises:
        ValueError: the stride skips pixels.
    """
    check_stride(window, stride)
    size = images.shape[2:]
    height, width = (min(side, whole) for side, whole in zip(window, size, strict=True))
    rows, columns = (list(starts(*axis)) for axis in zip(size, (height, width), stride, strict=True))
    places = list(product(range(len(images)), rows, columns))
    total, covered = torch.empty(0), torch.zeros(size, device=images.device)
    for first in range(0, len(places), batch_size):
        some = places[first : first + batch_size]
        logits = model(torch.stack([images[i, :, y : y + height, x : x + width] for i, y, x in some])).float()
        if not first:
            total = logits.new_zeros(len(images), logits.shape[1], *size)
        for (i, y, x), each in zip(some, logits, strict=True):
            total[i, :, y : y + height, x : x + width] += each
    for y, x in product(rows, columns):
        covered[y : y + height, x : x + width] += 1
    return total / covered


def starts(size: int, window: int, stride: int) -> Iterator[int]:
    """Where windows begin on an axis of ``size`` pixels."""
    for number in range(math.ceil((size - window) / stride) + 1):
        yield min(number * stride, size - window)


def _logits(model: Model, images: Tensor, options: InferenceOptions) -> Tensor:
    window, stride = options.window, options.step
    if window is None or stride is None:
        return model(images).float()
    return slide(model, images, window, stride, options.batch_size)

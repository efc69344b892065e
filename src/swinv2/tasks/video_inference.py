"""A trained classifier of clips over videos: the mean of several views, and what it sees as time goes by."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from swinv2.data.clips import ClipOptions, Extent, covering_clips
from swinv2.data.transforms import eval_transform
from swinv2.data.video import Video, open_video
from swinv2.data.video_transforms import read_clips
from swinv2.preprocessing import Preprocessing

PICTURES = 8
"""Frames of a video that a timeline shows."""
PIXELS = 240
"""Longest side of one."""


class ViewBatch(Protocol):
    """What is needed of a batch: clips ``[B, C, T, H, W]``, or views of each video ``[B, V, C, T, H, W]``."""

    @property
    def images(self) -> Tensor:
        """The clips; ``[0]`` in a batch without readable videos."""


B = TypeVar("B", bound=ViewBatch)


def average_views(model: nn.Module, views: Tensor, at_once: int = 8) -> Tensor:
    """Logarithm of each video's class probabilities, the mean over its views, fp32 ``[B, classes]``.

    Being logarithms of probabilities they serve wherever logits do: softmax gives the probabilities back, and cross
    entropy is that of the mean.

    Args:
        model: Logits from clips, in evaluation mode.
        views: ``[B, V, C, T, H, W]``, on any device.
        at_once: So many clips go through the model together.
    """
    weight = next(model.parameters())
    clips = views.flatten(0, 1).split(at_once)
    logits = torch.cat([model(each.to(weight.device, weight.dtype, non_blocking=True)).float() for each in clips])
    return logits.log_softmax(-1).view(*views.shape[:2], -1).logsumexp(1) - math.log(views.shape[1])


@torch.inference_mode()
def infer_views(
    model: nn.Module, loader: Iterable[B], device: torch.device, at_once: int = 8
) -> Iterator[tuple[B, Tensor]]:
    """Each batch with what `average_views` says of it, on the CPU; as `swinv2.tasks.inference.infer` of images.

    Args:
        model: Logits from clips.
        loader: Batches of clips, or of views of videos.
        device: Where to compute.
        at_once: So many clips go through the model together.
    """
    model = model.to(device).eval()
    for batch in loader:
        views = batch.images.unsqueeze(1) if batch.images.ndim == 5 else batch.images
        yield batch, average_views(model, views, at_once).cpu() if len(views) else torch.empty(0)


@dataclass(frozen=True)
class Timeline:
    """What a model sees in one video.

    Args:
        name: The video's file.
        seconds: Its length.
        moments: The middle of each clip in seconds from the video's start, rising.
        probabilities: fp32 ``[len(moments), classes]``.
        classes: Their names.
        pictures: Frames from the middles of equal parts of the video.
    """

    name: str
    seconds: float
    moments: list[float]
    probabilities: Tensor
    classes: tuple[str, ...]
    pictures: list[Image.Image]

    def top(self, count: int) -> list[int]:
        """Classes that are likeliest at some moment, the likeliest first."""
        return self.probabilities.amax(0).topk(min(count, len(self.classes))).indices.tolist()


@torch.inference_mode()
def timeline(
    model: nn.Module,
    path: str | os.PathLike[str],
    classes: Sequence[str],
    options: ClipOptions,
    preprocessing: Preprocessing,
    *,
    most: int = 120,
    at_once: int = 8,
) -> Timeline:
    """Look at clips from a video's start to its end, half a clip apart.

    Args:
        model: Logits ``[B, len(classes)]`` from clips, on its device, in evaluation mode.
        path: The video.
        classes: Names.
        options: How frames make a clip; its views play no part.
        preprocessing: Of each frame.
        most: Look at no more clips; in a longer video they lie further apart.
        at_once: So many go through the model together, and are in memory.

    Raises:
        UnreadableVideo: The video cannot be read.
        ValueError: PyAV is not installed.
    """
    transform = eval_transform(preprocessing)
    with open_video(path) as video:
        clips = covering_clips(options, video.extent, most)
        logs = []
        for first in range(0, len(clips), at_once):
            batch = read_clips(video, clips[first : first + at_once], [transform], preprocessing.channels)
            logs.append(average_views(model, batch[:, None], at_once))
        return Timeline(
            name=video.name,
            seconds=video.extent.end - video.extent.start,
            moments=[(clip[0] + clip[-1]) / 2 - video.extent.start for clip in clips],
            probabilities=torch.cat(logs).exp().cpu(),
            classes=tuple(classes),
            pictures=_pictures(video, video.extent),
        )


def _pictures(video: Video, extent: Extent) -> list[Image.Image]:
    moments = [extent.start + (i + 0.5) / PICTURES * (extent.end - extent.start) for i in range(PICTURES)]
    pictures = []
    for _, image in video.frames(moments):
        image.thumbnail((PIXELS, PIXELS))
        pictures.append(image)
    return pictures

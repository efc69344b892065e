"""From a video file to a model's input: a random clip for training, the middle one, or the views of a test.

A clip's frames go one by one through a transform of images, each from the same state of torch's random numbers: they
are cropped, flipped and coloured alike, and only one frame is held at its full size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms import v2

from swinv2.data.clips import ClipOptions, random_clip, view_clips
from swinv2.data.options import AugmentOptions
from swinv2.data.transforms import CentreCrop, Mixing, Normalise, Transform, mixing, train_transform
from swinv2.data.video import Video, open_video
from swinv2.preprocessing import Preprocessing

ClipReader = Callable[[str | os.PathLike[str]], Tensor]

PLACES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.5, 0.5),),
    3: ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0)),
    5: ((0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)),
}
"""Where the crops of a test lie: three along the longer side, which together show all of it, or centre and corners."""


def train_clips(options: ClipOptions, augment: AugmentOptions, preprocessing: Preprocessing) -> ClipReader:
    """Reader of a random clip of a video, augmented, ``[C, T, H, W]``; its only randomness is torch's on the CPU.

    What the augmentation does to an image, it does to all frames of a clip alike: erasing has one rectangle and one
    noise. Mixing is of whole batches, and not done here. A horizontal flip turns left into right in motion too: turn it
    off where the classes differ in it.
    """
    return _TrainClips(options, train_transform(augment, preprocessing), preprocessing.channels)


def eval_clips(options: ClipOptions, preprocessing: Preprocessing) -> ClipReader:
    """Reader of the middle clip of a video, resized and cropped to its centre, ``[C, T, H, W]``, deterministic."""
    return partial(_first, clip_views(replace(options, views=(1, 1)), preprocessing))


def clip_views(options: ClipOptions, preprocessing: Preprocessing) -> ClipReader:
    """Reader of all ``options.views`` of a video, ``[clips * crops, C, T, H, W]``, deterministic.

    One crop, or five, are of the frame resized as for `eval_clips`, three of the frame that just covers the size. With
    ``crop_fraction`` 1 some of five are equal, since the frame is cut along one side only.
    """
    crops = options.views[1]
    fraction = 1.0 if crops == 3 else preprocessing.crop_fraction
    normalise = Normalise(preprocessing.mean, preprocessing.std)
    transforms = [
        v2.Compose([CentreCrop(preprocessing.size, fraction, preprocessing.interpolation, place), normalise])
        for place in PLACES[crops]
    ]
    return _ClipViews(options, transforms, preprocessing.channels)


def clip_mixing(augment: AugmentOptions, num_classes: int) -> Mixing | None:
    """`swinv2.data.transforms.mixing` for clips ``[B, C, T, H, W]``, whose frames all mix alike."""
    mix = mixing(augment, num_classes)
    return None if mix is None else partial(_mix_clips, mix)


def _mix_clips(mix: Mixing, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    mixed, targets = mix(clips.flatten(1, 2), labels)
    return mixed.unflatten(1, clips.shape[1:3]), targets


@dataclass(frozen=True)
class _TrainClips:
    options: ClipOptions
    transform: Transform
    channels: int

    def __call__(self, path: str | os.PathLike[str]) -> Tensor:
        with open_video(path) as video:
            clip = random_clip(self.options, video.extent, lambda count: torch.rand(count).tolist())
            return read_clips(video, [clip], [self.transform], self.channels)[0]


@dataclass(frozen=True)
class _ClipViews:
    options: ClipOptions
    transforms: Sequence[Transform]
    channels: int

    def __call__(self, path: str | os.PathLike[str]) -> Tensor:
        with open_video(path) as video:
            return read_clips(video, view_clips(self.options, video.extent), self.transforms, self.channels)


def _first(reader: ClipReader, path: str | os.PathLike[str]) -> Tensor:
    return reader(path)[0]


def read_clips(
    video: Video, clips: Sequence[Sequence[float]], transforms: Sequence[Transform], channels: int = 3
) -> Tensor:
    """Clips of an open video by their moments, each through each transform, ``[clips * transforms, C, T, H, W]``.

    A frame that several clips share is decoded and transformed once.

    Args:
        video: The video.
        clips: Moments of each, in seconds, equally many.
        transforms: From a Pillow image to ``[C, H, W]``; a random one does the same to every frame.
        channels: 1 (gray) or 3.

    Raises:
        UnreadableVideo: The frames cannot be decoded.
    """
    places: dict[float, list[tuple[int, int]]] = {}
    for number, clip in enumerate(clips):
        for place, moment in enumerate(clip):
            places.setdefault(moment, []).append((number, place))
    state, views = torch.get_rng_state(), torch.empty(0)
    for moment, image in video.frames(list(places), channels):
        for crop, transform in enumerate(transforms):
            torch.set_rng_state(state)
            frame = transform(image)
            if not len(views):
                views = frame.new_empty(len(clips), len(transforms), len(frame), len(clips[0]), *frame.shape[1:])
            for number, place in places[moment]:
                views[number, crop, :, place] = frame
    return views.flatten(0, 1)

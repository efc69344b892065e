"""What a run of video classification has of its own: videos, their clips, and the views of validation."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

from swinv2.data.labelled import labelled_clips
from swinv2.data.loading import Samples
from swinv2.data.sources import ImageSource
from swinv2.data.sources.videos import open_videos
from swinv2.data.video_transforms import clip_mixing, clip_views, train_clips
from swinv2.model import SwinTransformer
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.video import VideoTask
from swinv2.train.classify import ClassifyJob
from swinv2.train.images import enumerated
from swinv2.train.initial import Initial
from swinv2.train.options import Recipe


class VideoJob(ClassifyJob):
    """Classification of videos."""

    scores = replace(ClassifyJob.scores, counted="clips")

    def open(self, recipe: Recipe) -> tuple[ImageSource, ImageSource]:
        """See `Job`."""
        return open_videos(recipe.data, "train"), open_videos(recipe.data, "val")

    def initial(self, recipe: Recipe, training: ImageSource, last: Path | None) -> Initial:
        """As in classification; the weights will tell their clips."""
        start = super().initial(recipe, training, last)
        info = start.model.info
        start.model.info = replace(info, extra={**info.extra, **recipe.video.to_extra()})
        return start

    def samples(self, recipe: Recipe, source: ImageSource, *, augmented: bool) -> Samples:
        """See `Job`."""
        clips = recipe.video
        reader = train_clips(clips, recipe.augment, recipe.input) if augmented else clip_views(clips, recipe.input)
        return labelled_clips(source, reader, recipe.data.strict)

    def task(self, start: Initial, training: ImageSource, validation: ImageSource, optimise: Optimise) -> Task:
        """See `Job`."""
        assert isinstance(start.model, SwinTransformer)
        classes, augment = training.classes, start.recipe.augment
        return VideoTask(
            start.model,
            classes,
            views=prod(start.recipe.video.views),
            optimise=optimise,
            mixing=clip_mixing(augment, len(classes)),
            label_smoothing=augment.label_smoothing,
        )

    def describe(self, training: ImageSource, validation: ImageSource) -> str:
        """Classes and videos."""
        return f"{enumerated(training.classes)}, {len(training)} + {len(validation)} videos"

"""`swinv2 evaluate` and `swinv2 predict` for classifiers of videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from swinv2.cli.classifier import Classifier
from swinv2.cli.classify import FORMATS, add_clip_options, evaluate_options, name_classes, report
from swinv2.cli.images import add_image_options, open_images, picture_paths
from swinv2.cli.output import add_output_options, check_targets, remark
from swinv2.cli.weights import with_progress
from swinv2.data.clips import ClipOptions
from swinv2.train.recipe import parse

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from torch import Tensor

    from swinv2.checkpoint.reading import Raw
    from swinv2.data.labelled import Batch
    from swinv2.data.sources import ImageSource


@dataclass(frozen=True)
class ClipClassifier(Classifier):
    """A model that knows its classes, its input, and which clips of a video it looks at."""

    word: ClassVar[str] = "video"
    clip: ClipOptions = field(default_factory=ClipOptions)

    @property
    def input(self) -> dict[str, Any]:
        """What the model is given, for people and JSON."""
        return {**super().input, "clips": str(self.clip), "views": self.clip.views}

    def look(
        self, source: ImageSource, *, batch_size: int, workers: int, strict: bool
    ) -> Iterator[tuple[Batch, Tensor]]:
        """Batches of a source with the mean of the views, so many of which go through the model together."""
        from swinv2.data.labelled import labelled_clips
        from swinv2.data.loading import make_loader
        from swinv2.data.video_transforms import clip_views
        from swinv2.tasks.inference import best_device
        from swinv2.tasks.video_inference import infer_views

        samples = labelled_clips(source, clip_views(self.clip, self.preprocessing), strict)
        videos = max(batch_size // prod(self.clip.views), 1)
        loader = make_loader(samples, batch_size=videos, shuffle=False, workers=workers)
        return with_progress(infer_views(self.model, loader, best_device(), batch_size), len(loader))

    def told_clip(self) -> ClipOptions:
        """The clips that the weights were trained on; the usual ones, and a remark, where they do not tell."""
        told = ClipOptions.from_extra(self.extra)
        if told is None:
            remark(f"the weights do not tell their clips: these are of {ClipOptions()}, or as --video.* says")
        return told or ClipOptions()


def evaluate(arguments: Sequence[str], weights: Raw | None = None) -> None:
    """Measure a classifier on labelled videos."""
    options = evaluate_options(arguments, {}, ClipOptions())
    check_targets([options.output, options.confusion], options.overwrite)
    from swinv2.data.sources.videos import open_videos

    classifier = ClipClassifier.load(options, weights)
    options = evaluate_options(arguments, classifier.extra, classifier.told_clip())
    source = open_videos(options.data, options.split)
    report(replace(classifier, clip=options.video), source, options)


def predict(arguments: Sequence[str], weights: Raw | None = None) -> None:
    """Name the likeliest classes of videos, and draw what is seen as time goes by."""
    options = _predict_options(arguments, ClipOptions())
    check_targets([options.output], options.overwrite)
    from swinv2.data.sources.videos import VIDEOS

    source = open_images(options.images, options.strict, VIDEOS)
    classifier = ClipClassifier.load(options, weights)
    options = _predict_options(arguments, classifier.told_clip())
    classifier = replace(classifier, clip=options.video)
    names = [source.name(row) for row in range(len(source))]
    pictures = picture_paths(names, options.timelines, options.overwrite) if options.timelines else []
    rankings = name_classes(classifier, source, options)
    if pictures:
        _draw(classifier, {names[row]: pictures[row] for row in rankings}, options)


def _predict_options(arguments: Sequence[str], clip: ClipOptions) -> Namespace:
    """The options; clips are these where no others are asked for."""
    from jsonargparse import ArgumentParser
    from jsonargparse.typing import NonNegativeInt, PositiveInt

    parser = ArgumentParser(prog="swinv2 predict", description="Name what is in videos.", exit_on_error=False)
    add_image_options(parser, batches=False, what="video")
    add = parser.add_argument
    add("--batch-size", type=PositiveInt, default=8, metavar="N", help="clips at once (default: 8)")
    add("--workers", type=NonNegativeInt, default=0, metavar="N", help="processes that read videos (default: 0)")
    add("--top", type=PositiveInt, default=5, metavar="N", help="classes for each video (default: 5)")
    add("--timelines", type=Path | None, metavar="FOLDER", help="draw each video's classes over its time there")
    add_output_options(parser, tuple(FORMATS))
    add_clip_options(parser, clip)
    return parse(parser, arguments)


def _draw(classifier: ClipClassifier, pictures: Mapping[str, Path], options: Namespace) -> None:
    """A picture for each video; one that is damaged where no view of it lies has none."""
    from swinv2.data.image import UnreadableImage
    from swinv2.tasks.inference import best_device
    from swinv2.tasks.video_inference import timeline
    from swinv2.tasks.video_plots import draw_timeline
    from swinv2.train.plots import save

    model, known = classifier.model.to(best_device()).eval(), (classifier.classes, classifier.clip)
    drawn = 0
    for name, picture in with_progress(pictures.items(), len(pictures)):
        try:
            seen = timeline(model, name, *known, classifier.preprocessing, at_once=options.batch_size)
        except UnreadableImage as error:
            if options.strict:
                raise
            remark(f"no picture of {error}")
        else:
            save(draw_timeline(seen, options.top), picture)
            drawn += 1
    remark(f"{drawn} pictures in {options.timelines}")

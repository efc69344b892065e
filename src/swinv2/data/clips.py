"""Which moments of a video a clip shows: options, and arithmetic on seconds. No torch, no decoding.

A clip's frames are counted at the video's average rate, and each is asked for in the middle of its time, where no
rounding of timestamps reaches. A video of variable rate is so sampled evenly in time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

EXTRA = "clip"
"""Key under which weights say what clips they were trained on."""

Draw = Callable[[int], Sequence[float]]
"""So many random numbers from [0, 1)."""


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which frames of a video make a clip, and how many clips testing looks at.

    Args:
        frames: Frames of a clip; a model whose patch is two frames long makes half as many tokens of them.
        stride: From one frame of a dense clip to the next it is so many frames of the video.
        fps: Frames a second of a dense clip, whatever the video's rate; null counts by stride.
        sampling: dense (frames a stride apart, from anywhere in the video) or uniform (spread over all of it).
        short: What a dense clip shows past the end of a short video: repeat its last frame, or loop from its start.
        views: Clips of each video, and crops of each clip (1, 3 or 5), whose predictions validation and testing
            average; the published figures are of 1 1 and of 4 5.
    """

    frames: int = 16
    stride: int = 2
    fps: float | None = None
    sampling: Literal["dense", "uniform"] = "dense"
    short: Literal["repeat", "loop"] = "repeat"
    views: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        for name in ("frames", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1: a clip of 16 frames 2 apart is usual.")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps {self.fps} is not above 0: give frames a second, or null to count by stride.")
        if self.fps is not None and self.sampling == "uniform":
            raise ValueError(f"fps {self.fps} has no meaning where sampling is uniform: leave one of them out.")
        for name, choices in (("sampling", ("dense", "uniform")), ("short", ("repeat", "loop"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown: use {' or '.join(choices)}.")
        if self.views[0] < 1 or self.views[1] not in (1, 3, 5):
            raise ValueError(f"views {self.views} are no clips and crops: give 1 or more clips, and 1, 3 or 5 crops.")

    def __str__(self) -> str:
        if self.sampling == "uniform":
            return f"{self.frames} frames of equal parts"
        return f"{self.frames} frames, " + (f"{self.stride} apart" if self.fps is None else f"{self.fps:g} a second")

    def to_extra(self) -> dict[str, str]:
        """What the weights of a run say of their clips, for `swinv2.info.ModelInfo.extra`."""
        return {EXTRA: json.dumps(asdict(self))}

    @classmethod
    def from_extra(cls, extra: Mapping[str, str]) -> ClipOptions | None:
        """What `to_extra` said, if it did.

        Raises:
            ValueError: It is damaged, or of a newer version.
        """
        if EXTRA not in extra:
            return None
        try:
            fields: dict[str, Any] = json.loads(extra[EXTRA])
            return cls(**{**fields, "views": tuple(fields["views"])})
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"the weights' clip options {extra[EXTRA]!r} cannot be read: update swinv2.") from error


@dataclass(frozen=True)
class Extent:
    """What there is of a video: from the first frame to the end of the last, in seconds, and frames a second."""

    start: float
    end: float
    rate: float

    @property
    def frames(self) -> int:
        """Frames at the average rate, at least one."""
        return max(round((self.end - self.start) * self.rate), 1)

    def moment(self, frame: int) -> float:
        """Seconds in the middle of a frame."""
        return self.start + (frame + 0.5) / self.rate


def random_clip(options: ClipOptions, extent: Extent, draw: Draw) -> list[float]:
    """Moments of a training clip, in seconds.

    A dense clip starts anywhere; of the equal parts that uniform sampling makes, each gives a frame from anywhere.
    """
    if options.sampling == "uniform":
        return _uniform(options, extent, draw(options.frames))
    starts = _slack(options, extent) + 1
    return _dense(options, extent, int(draw(1)[0] * starts))


def view_clips(options: ClipOptions, extent: Extent) -> list[list[float]]:
    """Moments of each of the clips of a test, in seconds.

    One clip lies in the middle; several dense ones are spread from the start to the end, as in the published tests,
    and several uniform ones show different places of each part.
    """
    count = options.views[0]
    if options.sampling == "uniform":
        return [_uniform(options, extent, [(view + 0.5) / count] * options.frames) for view in range(count)]
    slack = _slack(options, extent)
    starts = [slack // 2] if count == 1 else [round(slack * view / (count - 1)) for view in range(count)]
    return [_dense(options, extent, start) for start in starts]


def covering_clips(options: ClipOptions, extent: Extent, most: int) -> list[list[float]]:
    """Moments of dense clips one after another, half a clip apart, that cover a video; at most so many.

    Uniform sampling covers it with one clip.
    """
    if options.sampling == "uniform":
        return view_clips(replace(options, views=(1, 1)), extent)
    slack = _slack(options, extent)
    half = max((extent.frames - slack) // 2, 1)
    count = min(-(-slack // half) + 1, most)
    return [_dense(options, extent, slack * view // max(count - 1, 1)) for view in range(count)]


def _step(options: ClipOptions, extent: Extent) -> float:
    return options.stride if options.fps is None else extent.rate / options.fps


def _slack(options: ClipOptions, extent: Extent) -> int:
    """How many frames later than the first a dense clip may start."""
    last = int((options.frames - 1) * _step(options, extent) + 0.5)
    return max(extent.frames - 1 - last, 0)


def _dense(options: ClipOptions, extent: Extent, start: int) -> list[float]:
    step, last = _step(options, extent), extent.frames - 1
    places = [int(start + i * step + 0.5) for i in range(options.frames)]
    if options.short == "loop":
        return [extent.moment(place % extent.frames) for place in places]
    return [extent.moment(min(place, last)) for place in places]


def _uniform(options: ClipOptions, extent: Extent, places: Sequence[float]) -> list[float]:
    part = extent.frames / options.frames
    return [extent.moment(int((i + place) * part)) for i, place in enumerate(places)]

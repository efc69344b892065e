"""Reading videos with PyAV: what a file holds, and the frames shown at given moments of it, the right way up.

Only what is asked for is decoded, from the key frame before it, so that a clip of a long video costs no more than one
of a short video.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from swinv2.data.clips import Extent
from swinv2.data.image import OF_THE_FILE, UnreadableImage

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

EXTENSIONS = frozenset(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .flv .wmv .3gp .ogv .gif".split()  # noqa: SIM905
)
APART = 4.0
"""Seconds between two wanted frames beyond which all between them is not decoded: the next key frame is looked for."""
MISSING = 1.0
"""Seconds that a video's end may lack, where its last frame is shown instead; more means that it is damaged."""
TURNS = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""What to do with a frame by its display matrix, x' = ax + cy and y' = bx + dy with y downwards: (a, b, c, d)."""


class UnreadableVideo(UnreadableImage):
    """A file that is no video, or a damaged one; the message is "NAME: reason; remedy."."""


def is_video_name(path: str) -> bool:
    """Whether a file is a video by its extension."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def left_out(path: str) -> str:
    """What to say of a file that is no video by its extension."""
    return f"{path}: not a video by its extension; remove it."


@contextlib.contextmanager
def open_video(path: str | os.PathLike[str], name: str | None = None) -> Iterator[Video]:
    """Open a video file for reading.

    Args:
        path: The file; nothing else than files is opened, whatever it holds.
        name: What to call it in errors; by default its path.

    Raises:
        UnreadableVideo: It is missing, damaged, or holds no video.
        ValueError: PyAV is not installed.
        OSError, MemoryError: The machine, not the file, is in trouble.
    """
    name = name or os.fspath(path)
    with _told(name):
        container: InputContainer = import_av().open(
            f"file:{os.fspath(path)}", "r", options={"protocol_whitelist": "file"}, metadata_errors="ignore"
        )
    with container:
        yield Video(container, name)


class Video:
    """An open video; `open_video` makes it.

    Attributes:
        name: What errors call it.
        extent: Its first moment, its end, and its average rate.
    """

    def __init__(self, container: InputContainer, name: str) -> None:
        self.name = name
        self._container = container
        self._stream = _video_stream(container, name)
        self._unit = float(self._stream.time_base or 0)
        # Without threads of its own: those of a decoder that is still open are missing in a process that is forked, as
        # the workers of a loader are, which then waits for them for ever.
        self._stream.codec_context.thread_count = 1
        self._to_rgb = partial(import_av().video.reformatter.VideoReformatter().reformat, format="rgb24", threads=1)
        rate = self._stream.average_rate or self._stream.guessed_rate or self._stream.base_rate
        if not rate or not self._unit:
            raise UnreadableVideo(f"{name}: it does not tell its frame rate; convert it to MP4.")
        self.extent = self._measured(float(rate))

    def frames(self, moments: Sequence[float], channels: int = 3) -> Iterator[tuple[float, Image.Image]]:
        """Each moment, in rising order and once, with the frame shown then, in 1 (gray) or 3 channels.

        All have the first one's size, should the video change its size.

        Args:
            moments: Seconds; those before the first frame show the first, those after the last the last.
            channels: 1 or 3.

        Raises:
            UnreadableVideo: They cannot be decoded.
            ValueError: Another number of channels.
        """
        if channels not in (1, 3):
            raise ValueError(f"videos cannot have {channels} channels: use a model of 1 (gray) or 3 (RGB).")
        wanted, size = sorted(set(moments)), None
        with _told(self.name):
            for moment, frame in zip(wanted, self._shown_at(wanted), strict=True):
                image = _upright(Image.fromarray(self._to_rgb(frame).to_ndarray()), frame)
                size = size or image.size
                image = image if image.size == size else image.resize(size)
                yield moment, image if channels == 3 else image.convert("L")

    def _shown_at(self, wanted: Sequence[float]) -> Iterator[VideoFrame]:
        """The frames of rising moments; from each key frame on as long as the moments are near each other."""
        cuts = [i for i, (one, other) in enumerate(pairwise(wanted), start=1) if other - one > APART]
        for first, stop in pairwise([0, *cuts, len(wanted)]):
            yield from self._run(wanted[first:stop])

    def _run(self, wanted: Sequence[float]) -> Iterator[VideoFrame]:
        """The frames of rising moments by decoding all between them."""
        left, last = list(reversed(wanted)), None
        for frame in self._from(wanted[0]):
            while last is not None and left and self._time(frame) > left[-1]:
                yield last
                left.pop()
            if not left:
                return
            last = frame
        if last is None:
            raise UnreadableVideo(f"{self.name}: no frame of it can be decoded; repair or remove it.")
        end = self._time(last) + (last.duration or 0) * self._unit
        if left[0] - end > MISSING:
            raise self._cut(end, self.extent)
        yield from [last] * len(left)

    def _from(self, moment: float) -> Iterator[VideoFrame]:
        """Frames from one at or before a moment on; a format that seeks too far is asked again for an earlier one."""
        start = self.extent.start
        earlier = [moment - back for back in (0, 1, 4, 16, 64) if moment - back > start]
        for place in (*earlier, start, start - 1):  # MPEG-TS finds its first frame from before it alone
            try:
                self._seek(place)
            except import_av().FFmpegError:
                if place >= start:
                    raise
                self._seek(start)
            frames = self._container.decode(self._stream)
            first = next(frames, None)
            if first is not None and self._time(first) <= max(moment, start):
                break
        if first is not None:
            yield first
            yield from frames

    def _measured(self, rate: float) -> Extent:
        """The extent that the packets' timestamps show; for its end, only the last of them are read."""
        start = (self._stream.start_time or 0) * self._unit
        said = (self._stream.duration or 0) * self._unit
        guess = said or (self._container.duration or 0) / 1e6
        backs = (0.0, 2.0, 20.0, guess)  # some formats find nothing near the end
        ends = next(filter(None, (self._ends(start + guess - min(back, guess), 1 / rate) for back in backs)), [])
        if not ends:
            raise UnreadableVideo(f"{self.name}: it holds no frames; repair or remove it.")
        if start + said - max(ends) > MISSING:
            raise self._cut(max(ends), Extent(start, start + said, rate))
        return Extent(start, max(ends), rate)

    def _ends(self, moment: float, length: float) -> list[float]:
        """Where the frames end that stand in the file after the key frame before a moment, if they tell no length by
        the usual one.
        """
        ends = []
        with contextlib.suppress(import_av().FFmpegError):  # no place to seek to, or the end of a damaged file
            self._seek(moment)
            for packet in self._container.demux(self._stream):
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is not None:
                    ends.append(stamp * self._unit + (packet.duration * self._unit if packet.duration else length))
        return ends

    def _seek(self, moment: float) -> None:
        self._container.seek(int(moment / self._unit), stream=self._stream)

    def _time(self, frame: VideoFrame) -> float:
        stamp = frame.dts if frame.pts is None else frame.pts
        if stamp is None:
            raise UnreadableVideo(f"{self.name}: its frames have no timestamps; convert it to MP4.")
        return stamp * self._unit

    def _cut(self, end: float, whole: Extent) -> UnreadableVideo:
        return UnreadableVideo(
            f"{self.name}: its frames end after {end - whole.start:.1f} of {whole.end - whole.start:.1f} s; repair or "
            "remove it."
        )


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    """The first video stream that is no picture of a cover."""
    disposition = import_av().stream.Disposition
    covers = disposition.attached_pic | disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not len(container.streams):
        raise UnreadableVideo(f"{name}: nothing is found in it, as of a file that is cut off; repair or remove it.")
    if not streams:
        holds = " but audio" if container.streams.audio else ""
        raise UnreadableVideo(f"{name}: it holds no video{holds}; remove it.")
    if streams[0].codec_context is None:
        raise UnreadableVideo(f"{name}: no decoder for its video is installed; convert it to H.264.")
    return streams[0]


def _upright(image: Image.Image, frame: VideoFrame) -> Image.Image:
    """An image of a frame, turned and mirrored as the file asks."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    rows = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3) / 65536
    turn = TURNS.get(tuple(np.sign(rows[:2, :2].round()).astype(int).flatten().tolist()))
    return image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """What FFmpeg refuses, as `UnreadableVideo`; troubles of the machine as they are."""
    try:
        yield
    except import_av().FFmpegError as error:
        if isinstance(error, MemoryError):
            raise MemoryError(f"{name}: not enough memory") from error
        if isinstance(error, OSError) and error.errno not in OF_THE_FILE:
            raise OSError(error.errno, error.strerror, name) from error
        raise UnreadableVideo(f"{name}: {error.strerror or error}; repair or remove it.") from error


def import_av() -> ModuleType:
    """PyAV, which only reading videos needs."""
    try:
        import av
    except ModuleNotFoundError:
        raise ValueError("PyAV, which reads videos, is missing: pip install 'swinv2[video]'.") from None
    return av

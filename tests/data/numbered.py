"""Frames that say their numbers, and small real video files of them, written by PyAV alone."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

BITS = (2, 5)
"""A frame is a table of black and white blocks: its number in binary."""


def numbered(number: int, width: int = 80, height: int = 48) -> npt.NDArray[np.uint8]:
    """A frame [H, W, 3] whose number survives compression."""
    bits = np.array([number >> bit & 1 for bit in range(BITS[0] * BITS[1])], dtype=np.uint8).reshape(BITS)
    rows, columns = np.arange(height) * BITS[0] // height, np.arange(width) * BITS[1] // width
    return np.repeat(255 * bits[rows][:, columns, None], 3, axis=2)


def number_of(image: Image.Image) -> int:
    """What `numbered` wrote."""
    pixels = np.asarray(image.convert("L"))
    rows, columns = ((np.arange(n) * 2 + 1) * size // (2 * n) for n, size in zip(BITS, pixels.shape, strict=True))
    return sum(1 << bit for bit, value in enumerate(pixels[rows][:, columns].flatten()) if value > 127)


def write(
    path: Path,
    frames: int | Sequence[npt.NDArray[np.uint8]] = 40,
    rate: Any = 10,
    *,
    milliseconds: Sequence[int] | None = None,
    codec: str = "libx264",
    rotation: tuple[float, bool, bool] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    **size: int,
) -> Path:
    """Write so many numbered frames, or given ones, at a rate or at given times."""
    pictures = [numbered(i, **size) for i in range(frames)] if isinstance(frames, int) else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate, {"g": "12", **(options or {})})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv444p" if codec == "libx264" else "yuv420p"  # sizes may be odd
        if rotation:
            stream.set_display_rotation(*rotation)
        if milliseconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if milliseconds:
                frame.pts, frame.time_base = milliseconds[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_sound(path: Path, cover: bool = False) -> Path:
    """Write a second of silence, with a picture of a cover if asked."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libmp3lame" if path.suffix == ".mp3" else "aac", 16000)
        if cover:
            picture = file.add_stream("mjpeg", 1)
            picture.width, picture.height, picture.pix_fmt = 16, 16, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            still = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
            file.mux(picture.encode(still))
            file.mux(picture.encode())
        for start in range(0, 16000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path

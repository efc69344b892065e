"""A made task that no single frame can solve: in which of eight directions does something move?

    python -m swinv2.data.motion motion --videos 100

It writes motion/{train,val}/DIRECTION/0000.mp4: a handwritten digit over a textured background, or an image of any
dataset that `swinv2 train` reads (--source photos). The object starts anywhere and, where it leaves the frame, enters
on the other side, so that in every frame of every class it may be anywhere; each frame is compressed by itself, so that
none shows traces of the one before. What one frame tells is therefore chance, 12.5%: as a control, clips with fps 1e6
show one frame all the time. A horizontal flip turns east into west, so train without.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from swinv2.data.options import DataOptions, Split
from swinv2.data.sources import ImageSource, open_split
from swinv2.data.video import import_av
from swinv2.files import folder_aside

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]

DIRECTIONS = ("east", "northeast", "north", "northwest", "west", "southwest", "south", "southeast")
"""The classes, counterclockwise."""
RATE = 12
"""Frames a second."""
TEXTURE = (4, 12, 32)
"""Random colours along each side of the layers that a background is the mean of."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """The task.

    Args:
        videos: Videos of each direction to train on.
        val_videos: Videos of each direction to validate on, of other objects.
        size: Height and width in pixels, even.
        frames: Frames of a video.
        source: Where the objects come from: digits, or the path of images as in `DataOptions.path`.
        seed: Of everything.
    """

    videos: int = 100
    val_videos: int = 25
    size: int = 64
    frames: int = 16
    source: str = "digits"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("videos", 1), ("val_videos", 1), ("frames", 2), ("size", 16)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} is too small: give {least} or more.")
        if self.size % 2:
            raise ValueError(f"size {self.size} is odd, but colours are stored for every second pixel: make it even.")


def make_motion(out: Path, task: Motion) -> Iterator[str]:
    """Write the task's videos to a new folder, and yield a line of each class folder; the same ones for the same task.

    Raises:
        ValueError: The folder exists, or the source cannot be read.
    """
    if out.exists():
        raise ValueError(f"{out} exists: choose another folder, or remove it.")
    options = DataOptions(path=task.source, split_seed=task.seed)
    with folder_aside(out) as aside:
        counts: dict[Split, int] = {"train": task.videos, "val": task.val_videos}
        for split, count in counts.items():
            source = open_split(options, split)
            for label, direction in enumerate(DIRECTIONS):
                folder = aside / split / direction
                folder.mkdir(parents=True)
                for number in range(count):
                    random = np.random.default_rng((task.seed, split == "val", label, number))
                    write_video(folder / f"{number:04d}.mp4", moving(source, label, task, random), RATE)
                yield f"{out / split / direction}: {count} videos"


def moving(source: ImageSource, label: int, task: Motion, random: np.random.Generator) -> Iterator[Pixels]:
    """The frames of one video."""
    size = task.size
    background = _background(size, random)
    colours, opacity = _object(source, size, random)
    speed = random.uniform(size / 40, size / 20)  # pixels a frame
    angle = label * math.tau / len(DIRECTIONS)
    x, y = random.uniform(0, size, 2)
    for _ in range(task.frames):
        shift = round(y), round(x)
        here = np.roll(opacity, shift, (0, 1))
        frame = background * (1 - here) + np.roll(colours, shift, (0, 1)) * here
        yield frame.round().astype(np.uint8)
        x, y = x + speed * math.cos(angle), y - speed * math.sin(angle)


def _background(size: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """A texture of large and small blotches, [size, size, 3]."""
    layers = [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in TEXTURE]
    resized = [np.asarray(Image.fromarray(layer).resize((size, size), Image.Resampling.BICUBIC)) for layer in layers]
    texture: npt.NDArray[np.float64] = np.mean(resized, axis=0)
    return texture


def _object(
    source: ImageSource, size: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Colours [size, size, 3] and opacity [size, size, 1] of an object in the upper left corner.

    A digit is a stroke of one colour, another image a square of 2/5 of the side.
    """
    side = 2 * size // 5
    row = int(random.integers(len(source)))
    colours, opacity = np.zeros((size, size, 3)), np.zeros((size, size, 1))
    gray = source.name(row).startswith("digits/")
    image = source.image(row, 1 if gray else 3).resize((side, side), Image.Resampling.BICUBIC)
    if gray:
        colours[:side, :side] = random.choice((0, 255), 3)
        opacity[:side, :side, 0] = np.asarray(image) / 255
    else:
        colours[:side, :side], opacity[:side, :side] = np.asarray(image), 1
    return colours, opacity


def write_video(path: Path, frames: Iterable[Pixels], rate: int) -> None:
    """Write frames ``[H, W, 3]`` of even size as H.264 in MP4, each a key frame.

    Raises:
        ValueError: PyAV is not installed.
        OSError: The file cannot be written.
    """
    av = import_av()
    with av.open(f"file:{path}", "w") as container:
        stream: Any = container.add_stream("libx264", rate, {"crf": "18", "g": "1", "threads": "1"})
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            if not number:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m swinv2.data.motion", description=__doc__.split("\n")[0])
    task = Motion()
    parser.add_argument("out", type=Path, help="new folder for the videos")
    parser.add_argument("--videos", type=int, default=task.videos, help="for training, of each direction")
    parser.add_argument("--val-videos", type=int, default=task.val_videos, help="for validation, of each direction")
    parser.add_argument("--size", type=int, default=task.size, help="height and width in pixels")
    parser.add_argument("--frames", type=int, default=task.frames, help="frames of a video")
    parser.add_argument("--source", default=task.source, help="digits, or images that swinv2 train reads")
    parser.add_argument("--seed", type=int, default=task.seed)
    given = vars(parser.parse_args())
    out = given.pop("out")
    try:
        for line in make_motion(out, Motion(**given)):
            print(line)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

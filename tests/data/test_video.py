from __future__ import annotations

import random
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swinv2.data.image import UnreadableImage
from swinv2.data.video import UnreadableVideo, is_video_name, open_video

av = pytest.importorskip("av")
from numbered import number_of, numbered, write, write_sound  # noqa: E402

Make = Callable[..., Path]


def shown(path: Path, places: list[int], **options: Any) -> list[int]:
    """The numbers that frames wear, read at the moments where those of some places should be, in rising order."""
    with open_video(path) as video:
        moments = [video.extent.moment(place) for place in places]
        return [number_of(image) for _, image in video.frames(moments, **options)]


def read_all(path: Path) -> list[Image.Image]:
    with open_video(path) as video:
        return [image for _, image in video.frames([video.extent.moment(i) for i in range(video.extent.frames)])]


ODD = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        *(("a.mp4", "libx264", rate) for rate in (ODD, Fraction(24000, 1001), Fraction(25, 2), 10, 60)),
        ("a.mkv", "libx264", ODD),
        ("a.mkv", "libx264", Fraction(25, 2)),
        ("a.ts", "libx264", ODD),
        ("a.flv", "libx264", ODD),
        ("a.avi", "mpeg4", ODD),
        ("a.webm", "libvpx", ODD),
    ],
)
def test_every_frame_is_found_whatever_the_rate_and_container(
    make_video: Make, name: str, codec: str, rate: Any
) -> None:
    path = make_video(name, 40, rate, codec=codec, options={"b": "2M"} if codec == "libvpx" else None)
    with open_video(path) as video:
        assert video.extent.frames == 40
        assert video.extent.rate == pytest.approx(float(rate), rel=1e-3)
    assert shown(path, list(range(40))) == list(range(40))
    for place in random.Random(0).sample(range(40), 6):
        assert shown(path, [place]) == [place]


def test_moments_come_once_each_in_rising_order(make_video: Make) -> None:
    with open_video(make_video()) as video:
        found = list(video.frames([3.05, 0.15, 3.05, 1.95]))
    assert [moment for moment, _ in found] == [0.15, 1.95, 3.05]
    assert [number_of(image) for _, image in found] == [1, 19, 30]


def test_a_variable_rate_is_read_by_its_timestamps(make_video: Make) -> None:
    gaps = random.Random(1).choices((7, 20, 33, 50, 200, 900), k=60)
    stamps = [sum(gaps[:i]) for i in range(60)]
    path = make_video(frames=60, rate=30, milliseconds=stamps)
    moments = [random.Random(i).uniform(0, stamps[-1] / 1000) for i in range(40)]
    want = {moment: max(i for i, stamp in enumerate(stamps) if stamp / 1000 <= moment) for moment in moments}
    with open_video(path) as video:
        assert video.extent.start == pytest.approx(0, abs=1e-3)
        assert video.extent.end >= stamps[-1] / 1000
        assert {moment: number_of(image) for moment, image in video.frames(moments)} == want


def test_moments_outside_show_the_first_and_the_last_frame(make_video: Make) -> None:
    with open_video(make_video()) as video:
        assert [number_of(image) for _, image in video.frames([-3.0, 4.5])] == [0, 39]


def test_what_lies_before_a_clip_is_not_decoded(make_video: Make) -> None:
    """All packets but the first and the last three seconds' are made unreadable."""
    path = make_video(frames=300, rate=30, options={"g": "15", "bf": "2"})
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos is not None and packet.size]
    data = bytearray(path.read_bytes())
    for packet in packets[15:210]:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    assert shown(path, [250, 252, 299]) == [250, 252, 299]
    assert shown(path, [2, 280]) == [2, 280], "nor what lies between distant moments"
    with pytest.raises(UnreadableVideo):
        shown(path, [100])


@pytest.mark.parametrize("size", [(80, 48), (81, 49), (33, 17)])
def test_odd_sizes(make_video: Make, size: tuple[int, int]) -> None:
    path = make_video(frames=4, width=size[0], height=size[1])
    assert {image.size for image in read_all(path)} == {size}
    assert shown(path, [0, 1, 2, 3]) == [0, 1, 2, 3]


def test_one_frame(make_video: Make) -> None:
    path = make_video(frames=1)
    with open_video(path) as video:
        assert video.extent.frames == 1
    assert shown(path, [0]) == [0]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
def test_frames_are_the_right_way_up(make_video: Make, degrees: int, flips: tuple[bool, bool]) -> None:
    """A rotation is counterclockwise, and mirroring comes after it."""
    frame = numbered(0b1011010001)
    path = make_video(frames=[frame], rotation=(degrees, *flips))
    (image,) = read_all(path)
    want = np.rot90(frame, degrees // 90)
    want = want[:, ::-1] if flips[0] else want
    want = want[::-1] if flips[1] else want
    assert image.size == (want.shape[1], want.shape[0])
    assert np.abs(np.asarray(image).astype(int) - want).mean() < 8


def test_gray_frames(make_video: Make) -> None:
    path = make_video()
    with open_video(path) as video:
        (_, image), *_ = video.frames([0.05], channels=1)
        assert image.mode == "L"
        with pytest.raises(ValueError, match="videos cannot have 4 channels"):
            next(video.frames([0.05], channels=4))


def test_colours_are_right(make_video: Make) -> None:
    frame = np.full((32, 32, 3), (200, 60, 30), np.uint8)
    (image,) = read_all(make_video(frames=[frame]))
    assert np.abs(np.asarray(image).astype(int) - frame).max() <= 4


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def damaged(case: str, folder: Path) -> Path:
    path = folder / f"{case}.mp4"
    match case:
        case "text":
            path.write_text("not a video\n" * 50)
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "sound":
            write_sound(path)
        case "cut before its index":
            cut(write(path), 0.6)
        case "cut after its index":
            cut(write(path, 200, container={"movflags": "faststart"}), 0.5)
    return path


REASONS = {
    "missing": "No such file",
    "text": "Invalid data found",
    "empty": "Invalid data found",
    "folder": "Is a directory",
    "sound": "it holds no video but audio; remove it",
    "cut before its index": "nothing is found in it",
    "cut after its index": r"its frames end after \d+\.\d of 20\.0 s",
}


@pytest.mark.parametrize("case", REASONS)
def test_what_is_no_video_or_damaged_is_told_in_one_sentence(tmp_path: Path, case: str) -> None:
    path = damaged(case, tmp_path)
    with pytest.raises(UnreadableVideo, match=REASONS[case]) as caught:
        read_all(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(("remove it.", "MP4."))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UnreadableImage), "so that loaders pass it over"


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "song.mp3", cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(UnreadableVideo, match="no video but audio"):
        read_all(path)


def test_nothing_but_files_is_opened() -> None:
    for source in ("http://localhost:9/a.mp4", "concat:a.mp4|b.mp4", "pipe:0"):
        with pytest.raises(UnreadableVideo, match="No such file"), open_video(source):
            pass


def test_without_pyav_the_extra_is_named(make_video: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"PyAV, .* is missing: pip install 'swinv2\[video\]'"), open_video(path):
        pass


def test_extensions() -> None:
    assert is_video_name("a/b.MP4")
    assert is_video_name("clip.webm")
    assert not is_video_name("photo.jpg")
    assert not is_video_name("mp4")

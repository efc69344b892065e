from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from swinv2.data.clips import ClipOptions
from swinv2.data.motion import DIRECTIONS, Motion, main, make_motion, moving, write_video
from swinv2.data.options import DataOptions
from swinv2.data.sources import open_split
from swinv2.data.sources.videos import open_videos
from swinv2.data.video import open_video

av = pytest.importorskip("av")
SMALL = Motion(videos=2, val_videos=1, size=32, frames=8)


def frames_of(path: Path) -> np.ndarray:
    with open_video(path) as video:
        moments = [video.extent.moment(i) for i in range(video.extent.frames)]
        return np.stack([np.asarray(image) for _, image in video.frames(moments)]).astype(float)


def place_of(frames: np.ndarray) -> np.ndarray:
    """Centre of what moves in each frame, [T] complex angles of x and y around the torus, from the pixels alone."""
    moved = np.abs(frames - np.median(frames, axis=0)).sum(-1)  # the background is still
    turns = np.exp(2j * np.pi * np.arange(frames.shape[1]) / frames.shape[1])
    return np.stack([(moved.sum(1) * turns).sum(-1), (moved.sum(2) * turns).sum(-1)])


def direction_of(frames: np.ndarray) -> str:
    """The way from each frame's centre to the next one's."""
    places = place_of(frames)
    x, y = np.angle((places[:, 1:] / places[:, :-1]).sum(-1))
    return DIRECTIONS[round(math.atan2(-y, x) / (math.tau / 8)) % 8]


def test_what_moves_moves_as_its_folder_says(tmp_path: Path) -> None:
    """In files that were written and read back."""
    lines = list(make_motion(tmp_path / "motion", Motion(videos=2, val_videos=1, size=64, frames=16)))
    assert lines[0] == f"{tmp_path}/motion/train/east: 2 videos"
    found = {path: direction_of(frames_of(path)) for path in sorted((tmp_path / "motion").rglob("*.mp4"))}
    assert len(found) == 24
    right = sum(path.parent.name == direction for path, direction in found.items())
    assert right >= 22, "the median is no perfect background"
    train, val = (open_videos(DataOptions(path=str(tmp_path / "motion")), split) for split in ("train", "val"))
    assert (len(train), len(val), train.classes) == (16, 8, tuple(sorted(DIRECTIONS)))


def test_where_it_is_tells_no_direction() -> None:
    """In the first and the last frames of east and of west it is as often in each quarter of the width."""
    source, task = open_split(DataOptions(path="digits"), "train"), Motion(size=16, frames=12)
    for label in (0, 4):
        counts = {0: np.zeros(4), 11: np.zeros(4)}
        for number in range(120):
            frames = np.stack(list(moving(source, label, task, np.random.default_rng(number)))).astype(float)
            x = np.angle(place_of(frames)[0]) % math.tau / math.tau
            for frame, count in counts.items():
                count[int(4 * x[frame])] += 1
        for count in counts.values():
            chi_square = ((count - 30) ** 2 / 30).sum()
            assert chi_square < 16.3, f"one time in a thousand by chance: {count}"  # 3 degrees of freedom


def test_every_frame_is_compressed_by_itself(tmp_path: Path) -> None:
    list(make_motion(tmp_path / "motion", SMALL))
    for path in (tmp_path / "motion").rglob("*.mp4"):
        with av.open(str(path)) as container:
            assert [packet.is_keyframe for packet in container.demux(video=0) if packet.size] == [True] * 8


def test_the_same_task_makes_the_same_files(tmp_path: Path) -> None:
    for folder, task in (("a", SMALL), ("b", SMALL), ("c", Motion(**{**vars(SMALL), "seed": 1}))):
        list(make_motion(tmp_path / folder, task))
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.mp4"))
    contents = {folder: [(tmp_path / folder / name).read_bytes() for name in names] for folder in "abc"}
    assert contents["a"] == contents["b"]
    assert all(one != other for one, other in zip(contents["a"], contents["c"], strict=True))
    assert len(set(contents["a"])) == 24


def test_images_of_any_dataset_move_too(tmp_path: Path, class_folders) -> None:
    task = Motion(**{**vars(SMALL), "source": str(class_folders())})
    list(make_motion(tmp_path / "motion", task))
    frames = frames_of(tmp_path / "motion" / "val" / "south" / "0000.mp4")
    assert frames.shape == (8, 32, 32, 3)
    assert np.abs(frames - frames[0]).sum() > 0


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["motion", str(tmp_path / "out"), "--videos", "1", "--val-videos", "1", "--size", "16", "--frames", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 0
    assert "train/southeast: 1 videos" in capsys.readouterr().out
    assert main() == 2
    assert "out exists: choose another folder" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["motion", str(tmp_path / "odd"), "--size", "17"])
    assert main() == 2
    assert "size 17 is odd" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["motion", str(tmp_path / "none"), "--source", str(tmp_path / "nowhere")])
    assert main() == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("fields", [{"videos": 0}, {"val_videos": 0}, {"frames": 1}, {"size": 8}])
def test_impossible_tasks_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))} .* is too small"):
        Motion(**fields)


def test_clips_of_it_are_whole(tmp_path: Path) -> None:
    """16 frames are the 8 of a clip 2 apart, nearly."""
    write_video(tmp_path / "a.mp4", [np.full((16, 16, 3), 10 * i, np.uint8) for i in range(16)], 12)
    from swinv2.data.clips import view_clips

    with open_video(tmp_path / "a.mp4") as video:
        (clip,) = view_clips(ClipOptions(frames=8, stride=2), video.extent)
        levels = [np.asarray(image).mean() for _, image in video.frames(clip)]
    assert levels == pytest.approx([20.0 * i for i in range(8)], abs=6)

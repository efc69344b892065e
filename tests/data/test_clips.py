from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from swinv2.data.clips import ClipOptions, Extent, covering_clips, random_clip, view_clips

TEN = Extent(start=2.0, end=12.0, rate=10.0)  # 100 frames


def numbers(moments: list[float], extent: Extent = TEN) -> list[int]:
    """The frames of a constant rate that moments lie in the middle of."""
    places = [(moment - extent.start) * extent.rate - 0.5 for moment in moments]
    assert all(abs(place - round(place)) < 1e-6 for place in places)
    return [round(place) for place in places]


def at(*places: float):
    """Draws that are known."""
    return lambda count: list(places) * (count // len(places))


@pytest.mark.parametrize(("place", "start"), [(0.0, 0), (0.4999, 34), (0.99999, 69)])
def test_a_dense_training_clip_starts_anywhere_and_fits(place: float, start: int) -> None:
    clip = numbers(random_clip(ClipOptions(frames=16, stride=2), TEN, at(place)))
    assert clip == list(range(start, start + 31, 2))
    assert clip[-1] <= 99


def test_every_start_is_as_likely() -> None:
    options = ClipOptions(frames=4, stride=2)  # of 7 frames
    extent = Extent(0.0, 1.0, 10.0)
    starts = [numbers(random_clip(options, extent, at(i / 400)), extent)[0] for i in range(400)]
    assert [starts.count(start) for start in range(5)] == [100] * 4 + [0]


def test_one_test_clip_is_the_middle_and_several_reach_from_end_to_end() -> None:
    options = ClipOptions(frames=16, stride=2)
    assert [numbers(clip)[0] for clip in view_clips(options, TEN)] == [34]
    clips = [numbers(clip) for clip in view_clips(ClipOptions(frames=16, stride=2, views=(4, 5)), TEN)]
    assert [clip[0] for clip in clips] == [0, 23, 46, 69]
    assert clips[-1][-1] == 99


def test_a_target_rate_takes_the_nearest_frames() -> None:
    clip = numbers(random_clip(ClipOptions(frames=8, fps=4.0), TEN, at(0.0)))
    assert clip == [0, 3, 5, 8, 10, 13, 15, 18]  # every 2.5th
    slow = Extent(0.0, 10.0, 2.0)
    assert numbers(random_clip(ClipOptions(frames=6, fps=4.0), slow, at(0.0)), slow) == [0, 1, 1, 2, 2, 3]


def test_a_rate_beyond_all_shows_one_frame() -> None:
    clip = numbers(random_clip(ClipOptions(frames=8, fps=1e6), TEN, at(0.5)))
    assert clip == [50] * 8


@pytest.mark.parametrize(("short", "frames"), [("repeat", [0, 2, 4, 4, 4, 4]), ("loop", [0, 2, 4, 1, 3, 0])])
def test_short_videos_repeat_their_last_frame_or_loop(short: str, frames: list[int]) -> None:
    extent, options = Extent(0.0, 0.5, 10.0), ClipOptions(frames=6, stride=2, short=short)
    assert numbers(random_clip(options, extent, at(0.9)), extent) == frames
    assert numbers(view_clips(options, extent)[0], extent) == frames


def test_uniform_sampling_takes_a_frame_of_each_part() -> None:
    options = ClipOptions(frames=5, sampling="uniform", views=(2, 1))
    assert numbers(random_clip(options, TEN, at(0.0, 0.5, 0.99, 0.5, 0.0))) == [0, 30, 59, 70, 80]
    assert [numbers(clip) for clip in view_clips(options, TEN)] == [[5, 25, 45, 65, 85], [15, 35, 55, 75, 95]]
    short = Extent(0.0, 0.2, 10.0)
    assert numbers(view_clips(ClipOptions(frames=6, sampling="uniform"), short)[0], short) == [0, 0, 0, 1, 1, 1]


def test_one_frame_serves_for_a_clip() -> None:
    extent = Extent(0.0, 0.0, 25.0)
    for options in (ClipOptions(), ClipOptions(short="loop"), ClipOptions(sampling="uniform"), ClipOptions(fps=5.0)):
        for clip in (random_clip(options, extent, at(0.7)), *view_clips(options, extent)):
            assert numbers(clip, extent) == [0] * 16


@pytest.mark.parametrize("most", [100, 3])
def test_clips_cover_a_video(most: int) -> None:
    clips = [numbers(clip) for clip in covering_clips(ClipOptions(frames=8, stride=1), TEN, most)]
    assert (clips[0][0], clips[-1][-1]) == (0, 99)
    assert len(clips) == min(most, 24)  # 92 starts, 4 apart
    if most == 100:
        assert {frame for clip in clips for frame in clip} == set(range(100))
    assert len(covering_clips(ClipOptions(frames=200), TEN, most)) == 1
    assert len(covering_clips(ClipOptions(sampling="uniform", views=(4, 5)), TEN, most)) == 1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"frames": 0}, "frames 0 is below 1"),
        ({"stride": 0}, "stride 0 is below 1"),
        ({"fps": 0.0}, "fps 0.0 is not above 0"),
        ({"fps": 5.0, "sampling": "uniform"}, "fps 5.0 has no meaning where sampling is uniform"),
        ({"sampling": "random"}, "sampling 'random' is unknown: use dense or uniform"),
        ({"short": "black"}, "short 'black' is unknown: use repeat or loop"),
        ({"views": (0, 1)}, r"views \(0, 1\)"),
        ({"views": (4, 2)}, "1, 3 or 5 crops"),
    ],
)
def test_impossible_options_are_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ClipOptions(**fields)


def test_options_travel_with_weights() -> None:
    options = ClipOptions(frames=8, fps=7.5, views=(4, 5))
    assert ClipOptions.from_extra({"other": "x", **options.to_extra()}) == options
    assert ClipOptions.from_extra({"other": "x"}) is None
    for damaged in ("[", "[1]", '{"length": 3}'):
        with pytest.raises(ValueError, match=r"clip options .* cannot be read"):
            ClipOptions.from_extra({"clip": damaged})


def test_the_command_line_can_explain_every_option() -> None:
    assert all(f"\n        {field.name}: " in str(ClipOptions.__doc__) for field in fields(ClipOptions))


def test_options_need_no_torch() -> None:
    check = "import sys, swinv2.data.clips; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

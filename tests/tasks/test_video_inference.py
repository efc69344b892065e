from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import swinv2
from swinv2.data.clips import ClipOptions
from swinv2.data.video_transforms import eval_clips
from swinv2.preprocessing import Preprocessing
from swinv2.tasks.inference import rank
from swinv2.tasks.video_inference import average_views, infer_views, timeline
from swinv2.tasks.video_plots import draw_timeline

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = Preprocessing(size=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)


class Clips(NamedTuple):
    images: Tensor


@pytest.fixture
def model(randomise):
    config = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": ((2, 2, 2),) * 2, "num_classes": 4}
    return randomise(swinv2.create_model("swinv2_video_nano", **config)).eval()


def test_views_count_by_their_mean_probability(model) -> None:
    views = torch.randn(2, 6, 3, 4, 16, 16)
    with torch.no_grad():
        logs = average_views(model, views, at_once=5)
        want = torch.stack([model(video).softmax(-1).mean(0) for video in views])
    assert logs.shape == (2, 4)
    assert torch.allclose(logs.exp(), want, atol=1e-6)
    assert torch.allclose(logs.softmax(-1), want, atol=1e-6), "they serve as logits"
    (ranking, _) = rank(logs, "abcd", 4)
    assert [p for _, p in ranking] == pytest.approx(sorted(want[0].tolist(), reverse=True), abs=1e-6)


def test_mean_of_probabilities_is_not_that_of_logits() -> None:
    logits = torch.tensor([[0.0, 5.0], [3.0, 0.0], [3.0, 0.0]])

    class Sure(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, clips: Tensor) -> Tensor:
            return logits[clips[:, 0, 0, 0, 0].long()]

    views = torch.arange(3.0).view(1, 3, 1, 1, 1, 1)
    with torch.no_grad():
        found = average_views(Sure(), views, at_once=2).exp()
    assert found[0].tolist() == pytest.approx(logits.softmax(-1).mean(0).tolist())
    assert found[0, 0] > 0.6 > logits.mean(0).softmax(-1)[0]


def test_batches_of_clips_and_of_views(model) -> None:
    clips = torch.randn(3, 3, 4, 16, 16)
    batches = [Clips(clips), Clips(clips[:, None]), Clips(torch.empty(0))]
    (_, one), (_, other), (_, nothing) = infer_views(model.bfloat16(), batches, torch.device("cpu"))
    assert one.dtype == torch.float32
    assert torch.equal(one, other)
    assert len(nothing) == 0
    assert not one.requires_grad


class Brightness(nn.Module):
    """Class 1 where a clip is bright, class 0 where it is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, clips: Tensor) -> Tensor:
        light = clips.flatten(1).mean(1)
        return 20 * torch.stack([0.5 - light, light - 0.5, torch.full_like(light, -2.0)], dim=1)


@pytest.fixture
def dawn(tmp_path: Path) -> Path:
    """Six seconds: dark, and bright from the third second on."""
    pytest.importorskip("av")
    from swinv2.data.motion import write_video

    levels = [20] * 30 + [230] * 30
    write_video(tmp_path / "$dawn$.mp4", [np.full((32, 48, 3), level, np.uint8) for level in levels], 10)
    return tmp_path / "$dawn$.mp4"


def test_a_timeline_follows_the_video(dawn: Path) -> None:
    seen = timeline(Brightness(), dawn, ("night", "day", "never"), ClipOptions(frames=4, stride=1), PLAIN, at_once=7)
    assert seen.seconds == pytest.approx(6.0, abs=0.05)
    assert seen.moments == sorted(seen.moments)
    assert seen.moments[0] == pytest.approx(0.2, abs=0.02)
    assert seen.moments[-1] == pytest.approx(5.8, abs=0.02)
    assert torch.allclose(seen.probabilities.sum(1), torch.ones(len(seen.moments)))
    for moment, (night, day, _) in zip(seen.moments, seen.probabilities.tolist(), strict=True):
        if moment < 2.75:
            assert night > 0.99
        if moment > 3.25:
            assert day > 0.99
    assert sorted(seen.top(2)) == [0, 1]
    assert seen.top(9) == [*seen.top(2), 2]
    levels = [np.asarray(picture).mean() for picture in seen.pictures]
    assert [level > 127 for level in levels] == [False] * 4 + [True] * 4


def test_a_short_video_is_one_clip_as_predict_sees_it(dawn: Path, model) -> None:
    options = ClipOptions(frames=64, stride=2)
    seen = timeline(model, dawn, "abcd", options, PLAIN)
    assert len(seen.moments) == 1
    with torch.no_grad():
        want = model(eval_clips(options, PLAIN)(dawn)[None]).softmax(-1)
    assert torch.allclose(seen.probabilities, want, atol=1e-5)


def test_a_long_video_has_no_more_clips_than_allowed(dawn: Path) -> None:
    seen = timeline(Brightness(), dawn, "abc", ClipOptions(frames=2, stride=1), PLAIN, most=5)
    assert len(seen.moments) == 5
    assert seen.moments[-1] > 5.8


@pytest.mark.parametrize("moments", [1, 40])
def test_a_timeline_is_drawn(tmp_path: Path, dawn: Path, moments: int) -> None:
    seen = timeline(Brightness(), dawn, ("ni$ht", "d\udce4y", "never"), ClipOptions(frames=2), PLAIN, most=moments)
    figure = draw_timeline(seen, top=2)
    *pictures, plot = figure.axes
    assert len(pictures) == 8
    assert len(plot.lines) == 2
    for line, label in zip(plot.lines, seen.top(2), strict=True):
        assert list(line.get_xdata()) == seen.moments
        assert list(line.get_ydata()) == pytest.approx(seen.probabilities[:, label].tolist())
    figure.savefig(tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").stat().st_size > 1000

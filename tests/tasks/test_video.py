from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from swinv2.data.labelled import Batch
from swinv2.model import SwinTransformer, create_model
from swinv2.tasks.video import VideoTask

pytestmark = pytest.mark.usefixtures("one_thread")
EMPTY = Batch(torch.empty(0), torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), ("a.mp4: broken",))


@pytest.fixture
def model(randomise) -> SwinTransformer:
    config = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": ((2, 2, 2),) * 2, "num_classes": 3}
    made = randomise(create_model("swinv2_video_nano", **config)).eval()
    torch.nn.init.normal_(made.head.weight, generator=torch.Generator().manual_seed(0))
    return made


def task(model: SwinTransformer, **options: Any) -> VideoTask:
    made = VideoTask(model, list("abc"), optimise=lambda model: None, **options)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer to log to
    return made


def batch(*shape: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, shape[:1], generator=generator)
    return Batch(torch.randn(*shape, 3, 4, 16, 16, generator=generator), labels, torch.arange(shape[0]), ())


def test_validation_counts_the_mean_probability_of_the_views(model: SwinTransformer) -> None:
    made, seen = task(model, views=4), [batch(3, 4), batch(2, 4)]
    with torch.no_grad():
        for each in seen:
            made.validation_step(each, 0)
        p = torch.stack([model(views).softmax(1).mean(0) for each in seen for views in each.images])
    labels = torch.cat([each.labels for each in seen])
    figures = made.metrics.scalars()
    assert figures["loss"] == pytest.approx(-p[torch.arange(5), labels].log().mean().item(), rel=1e-5)
    assert figures["top1"] == pytest.approx((p.argmax(1) == labels).float().mean().item())
    assert figures["loss"] != pytest.approx(math.log(3), abs=0.01), "an untrained head would hide everything"


def test_training_takes_clips(model: SwinTransformer) -> None:
    clips = batch(5)
    loss = task(model).training_step(clips, 0)
    expected = torch.nn.functional.cross_entropy(model(clips.images), clips.labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("peers", [False, True])
def test_a_process_without_videos_goes_through_the_model_as_often_as_the_others(
    model: SwinTransformer, monkeypatch: pytest.MonkeyPatch, peers: bool
) -> None:
    """Whatever they have: under FSDP each of them waits for all at every pass."""
    passes: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, given: passes.append(given[0]))
    monkeypatch.setattr(VideoTask, "has_peers", peers)
    made = task(model, views=6)
    counts = []
    for each in (batch(3, 6), batch(1, 6), EMPTY):
        passes.clear()
        made.validation_step(each, 0)
        counts.append(len(passes))
    assert counts == [6, 6, 6 if peers else 0]
    assert made.metrics.images() == 4

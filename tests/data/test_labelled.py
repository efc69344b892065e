"""Clips of labelled videos as batches; those of images are in test_loading.py."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from swinv2.data.clips import ClipOptions
from swinv2.data.image import UnreadableImage
from swinv2.data.labelled import labelled_clips
from swinv2.data.loading import Loader, Samples, make_loader
from swinv2.data.options import AugmentOptions
from swinv2.data.sources.folder import Folder
from swinv2.data.video_transforms import clip_views, train_clips
from swinv2.preprocessing import Preprocessing

pytest.importorskip("av")
pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = Preprocessing(size=(16, 20), mean=(0.0,) * 3, std=(1.0,) * 3)
CLIPS = ClipOptions(frames=4, stride=2, views=(2, 3))


@pytest.fixture
def source(make_video: Callable[..., Path]) -> Folder:
    """Five videos of different lengths, of which the third is cut off."""
    paths = [make_video(f"{number}.mp4", 8 + 4 * number) for number in range(5)]
    paths[2].write_bytes(paths[2].read_bytes()[:400])
    return Folder(classes=("a", "b"), labels=[0, 1, 0, 1, 1], paths=[str(path) for path in paths])


def training(source: Folder, strict: bool = False) -> Samples:
    return labelled_clips(source, train_clips(CLIPS, AugmentOptions(), PLAIN), strict)


def loaded(samples: Samples, workers: int = 0, epoch: int = 0) -> list:
    loader: Loader = make_loader(samples, batch_size=2, shuffle=True, workers=workers)
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_a_broken_video_is_skipped_and_named(source: Folder) -> None:
    batches = loaded(training(source))
    assert sorted(row for batch in batches for row in batch.indices.tolist()) == [0, 1, 3, 4]
    assert all(
        source.labels[row] == label for batch in batches for row, label in zip(batch.indices, batch.labels, strict=True)
    )
    assert {batch.images.shape[1:] for batch in batches} == {(3, 4, 16, 20)}
    (reason,) = (reason for batch in batches for reason in batch.skipped)
    assert reason.startswith(f"{source.paths[2]}: ")
    with pytest.raises(UnreadableImage, match=r"2\.mp4"):
        loaded(training(source, strict=True))


def test_workers_change_nothing_and_epochs_do(source: Folder) -> None:
    here, there, later = loaded(training(source)), loaded(training(source), workers=2), loaded(training(source), 0, 1)
    assert [batch.indices.tolist() for batch in here] == [batch.indices.tolist() for batch in there]
    assert all(torch.equal(one.images, other.images) for one, other in zip(here, there, strict=True))
    first, second = (
        {row: clip for batch in each for row, clip in zip(batch.indices.tolist(), batch.images, strict=True)}
        for each in (here, later)
    )
    assert all(not torch.equal(first[row], second[row]) for row in first)


def test_views_are_batches_of_views(source: Folder) -> None:
    samples = pickle.loads(pickle.dumps(labelled_clips(source, clip_views(CLIPS, PLAIN))))
    (batch, *_) = make_loader(samples, batch_size=2, shuffle=False)
    assert batch.images.shape == (2, 6, 3, 4, 16, 20)
    assert torch.equal(batch.images[1], clip_views(CLIPS, PLAIN)(source.paths[1]))

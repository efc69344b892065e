from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from swinv2.data.clips import ClipOptions, view_clips
from swinv2.data.loading import SampleKey, seeded
from swinv2.data.options import AugmentOptions
from swinv2.data.transforms import eval_transform, mixing, train_transform
from swinv2.data.video import open_video
from swinv2.data.video_transforms import clip_mixing, clip_views, eval_clips, train_clips
from swinv2.preprocessing import Preprocessing

pytest.importorskip("av")
from numbered import number_of

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., Path]
COLOUR = Preprocessing(size=(24, 40), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
PLAIN = Preprocessing(size=(48, 80), mean=(0.0,) * 3, std=(1.0,) * 3)
"""Pixels as they are in a video of numbered frames."""
OFF = AugmentOptions(crop="none", hflip=0, rand_augment=None, color_jitter=0, erase=0, mixup=0, cutmix=0)


def numbers(clip: Tensor) -> list[int]:
    frames = (clip.clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).numpy()
    return [number_of(Image.fromarray(frame)) for frame in frames]


def read(reader: Callable[[Path], Tensor], path: Path, row: int = 0) -> Tensor:
    with seeded(SampleKey(0, 0, row)):
        return reader(path)


def still(folder: Make, frames: int = 12) -> Path:
    """A video that shows one photo all the time."""
    random = np.random.default_rng(0)
    photo = Image.fromarray(random.integers(0, 256, (9, 15, 3), dtype=np.uint8)).resize((80, 48))
    return folder(frames=[np.asarray(photo)] * frames, options={"crf": "0"})


def test_the_middle_clip_is_the_middle_frames_as_the_image_transform_makes_them(make_video: Make) -> None:
    path, options = make_video(), ClipOptions(frames=6, stride=3)
    clip = eval_clips(options, COLOUR)(path)
    assert clip.shape == (3, 6, 24, 40)
    assert clip.dtype == torch.float32
    assert clip.is_contiguous()
    with open_video(path) as video:
        want = [eval_transform(COLOUR)(image) for _, image in video.frames(view_clips(options, video.extent)[0])]
    assert torch.equal(clip, torch.stack(want, dim=1))
    assert numbers(eval_clips(options, PLAIN)(path)) == [12, 15, 18, 21, 24, 27]


def test_clips_of_short_videos(make_video: Make) -> None:
    path = make_video(frames=3)
    for short, frames in (("repeat", [0, 2, 2, 2]), ("loop", [0, 2, 1, 0])):
        assert numbers(eval_clips(ClipOptions(frames=4, stride=2, short=short), PLAIN)(path)) == frames
    assert numbers(eval_clips(ClipOptions(frames=4), PLAIN)(make_video("one.mp4", 1))) == [0] * 4


def test_training_clips_start_anywhere_by_torchs_random_state_alone(make_video: Make) -> None:
    path, reader = make_video(), train_clips(ClipOptions(frames=4, stride=3), OFF, PLAIN)
    clips = [numbers(read(reader, path, row)) for row in range(30)]
    assert all(clip == [clip[0] + 3 * i for i in range(4)] for clip in clips)
    starts = {clip[0] for clip in clips}
    assert 0 <= min(starts) < 6
    assert 24 < max(starts) <= 30
    assert len(starts) > 12
    assert clips == [numbers(read(reader, path, row)) for row in range(30)]


@pytest.mark.parametrize(
    "augment",
    [
        AugmentOptions(),
        AugmentOptions(crop="pad", rand_augment=None, color_jitter=0.5, erase=0),
        AugmentOptions(crop="random_resized", hflip=1, rand_augment=None, color_jitter=0, erase=1.0),
    ],
    ids=["published", "pad and colours", "flip and erase"],
)
def test_all_frames_are_augmented_alike(make_video: Make, augment: AugmentOptions) -> None:
    """Of a still video every clip is still, whatever was drawn; and it is what an image would have become."""
    path, reader = still(make_video), train_clips(ClipOptions(frames=5, stride=2), augment, COLOUR)
    drawn = [read(reader, path, row) for row in range(6)]
    for clip in drawn:
        assert torch.equal(clip, clip[:, :1].expand_as(clip))
    assert not torch.equal(drawn[0], drawn[1])
    with open_video(path) as video, seeded(SampleKey(0, 0, 3)):
        torch.rand(1)  # the start of the clip
        (_, image), *_ = video.frames([0.55])
        assert torch.equal(train_transform(augment, COLOUR)(image), drawn[3][:, 2])


def test_a_control_of_one_frame(make_video: Make) -> None:
    path, reader = make_video(), train_clips(ClipOptions(frames=6, fps=1e6), OFF, PLAIN)
    clips = [numbers(read(reader, path, row)) for row in range(10)]
    assert all(len(set(clip)) == 1 for clip in clips)
    assert len({clip[0] for clip in clips}) > 5


def test_views_are_clips_by_crops(make_video: Make) -> None:
    """Five crops are torchvision's of the resized frame, with the centre first."""
    path = make_video(frames=60)
    preprocessing = Preprocessing(size=(24, 24), mean=(0.5,) * 3, std=(0.5,) * 3, crop_fraction=0.8)
    options = ClipOptions(frames=4, stride=2, views=(4, 5))
    views = clip_views(options, preprocessing)(path)
    assert views.shape == (20, 3, 4, 24, 24)
    with open_video(path) as video:
        clips = view_clips(options, video.extent)
        frames = dict(video.frames(sorted({moment for clip in clips for moment in clip})))
    normalise = v2.Compose(
        [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    )
    for number, clip in enumerate(clips):
        for place, moment in enumerate(clip):
            resized = frames[moment].resize((50, 30), Image.Resampling.BICUBIC)  # 30: 24 / 0.8
            *corners, centre = v2.FiveCrop(24)(resized)
            want = torch.stack([normalise(crop) for crop in (centre, *corners)])
            got = views[5 * number : 5 * number + 5, :, place]
            assert (got - want).abs().mean() < 0.01
    assert not torch.equal(views[5], views[0])


def test_three_crops_show_all_of_the_longer_side(make_video: Make) -> None:
    options = ClipOptions(frames=2, views=(1, 3))
    for size in ({"width": 96, "height": 48}, {"width": 48, "height": 96}):
        path = make_video("wide.mp4", 8, **size)
        preprocessing = Preprocessing(size=(48, 48), mean=(0.0,) * 3, std=(1.0,) * 3, crop_fraction=0.5)
        views = clip_views(options, preprocessing)(path)
        with open_video(path) as video:
            (_, image), *_ = video.frames([view_clips(options, video.extent)[0][0]])
        whole = torch.from_numpy(np.asarray(image) / 255).permute(2, 0, 1).float()
        along = 2 if size["width"] == 96 else 1
        want = [whole.narrow(along, start, 48) for start in (0, 24, 48)]
        assert torch.allclose(views[:, :, 0], torch.stack(want), atol=1e-6)


def test_gray_models_get_gray_clips(make_video: Make) -> None:
    gray = Preprocessing(size=(8, 8), mean=(0.5,), std=(0.5,))
    assert eval_clips(ClipOptions(frames=3), gray)(make_video()).shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match="videos cannot have 4 channels"):
        eval_clips(ClipOptions(), Preprocessing(size=(8, 8), mean=(0.5,) * 4, std=(0.5,) * 4))(make_video())


class Rows:
    """Clips as a dataset."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = train_clips(ClipOptions(frames=4), AugmentOptions(), COLOUR)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> Tensor:
        if row >= len(self):
            raise IndexError(row)
        return read(self.reader, self.path, row)


def test_workers_change_nothing(make_video: Make) -> None:
    rows = Rows(make_video())
    assert pickle.loads(pickle.dumps(rows)).reader.options == rows.reader.options
    there = torch.cat(list(DataLoader(rows, batch_size=2, num_workers=2)))
    assert torch.equal(there, torch.stack(list(rows)))


class Collected(Rows):
    """The same by a process that frees what it has inherited."""

    def __getitem__(self, row: int) -> Tensor:
        gc.collect()
        return super().__getitem__(row)


@pytest.mark.timeout(60)
def test_workers_may_free_a_decoder_of_their_parent(make_video: Make) -> None:
    """A decoder's threads are not forked: freeing it would wait for them for ever."""
    rows = Collected(make_video())
    gc.disable()
    try:
        with open_video(rows.path) as video:
            next(video.frames([1.0, 2.0, 3.0]))
            video.itself = video  # only the garbage collector finds it
        del video
        assert len(list(DataLoader(rows, batch_size=2, num_workers=1))) == 3
    finally:
        gc.enable()


def test_reading_leaves_the_random_state_of_others_alone(make_video: Make) -> None:
    path, reader = make_video(), train_clips(ClipOptions(frames=4), AugmentOptions(), COLOUR)
    before = torch.get_rng_state()
    read(reader, path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_all_frames_of_a_clip_mix_as_an_image_does(kind: str) -> None:
    """Of clips whose frames are equal, each frame is what images become; of others, all have one rectangle."""
    options = AugmentOptions(**{"mixup": 0.0, "cutmix": 0.0, kind: 1.0})
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(4, 3, 12, 10, generator=generator), torch.tensor([0, 1, 2, 1])

    def mixed(mix, given: Tensor) -> tuple[Tensor, Tensor]:
        np.random.seed(3)
        return mix(given.clone(), labels)

    want, targets = mixed(mixing(options, 3), images)
    clips, same = mixed(clip_mixing(options, 3), images[:, :, None].repeat(1, 1, 5, 1, 1))
    assert not torch.equal(want, images)
    assert torch.equal(same, targets)
    assert torch.equal(clips, want[:, :, None].expand(-1, -1, 5, -1, -1))


def test_clips_without_mixing_are_left_alone() -> None:
    assert clip_mixing(OFF, 3) is None

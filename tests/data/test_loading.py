from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from swinv2.data.image import UnreadableImage
from swinv2.data.labelled import Batch, Sample, labelled_images
from swinv2.data.loading import Loader, SampleKey, Samples, make_loader
from swinv2.data.options import AugmentOptions, DataOptions
from swinv2.data.pack import pack
from swinv2.data.sources import ImageSource, open_split
from swinv2.data.sources.base import subset
from swinv2.data.transforms import eval_transform, train_transform
from swinv2.preprocessing import Preprocessing

GRAY = Preprocessing(size=(8, 8), mean=(0.5,), std=(0.5,))
COLOUR = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
MakeFolders = Callable[..., Path]


def digits(count: int = 10) -> Samples:
    return labelled_images(
        subset(open_split(DataOptions(path="digits"), "val"), range(count)), train_transform(AugmentOptions(), GRAY), 1
    )


def epoch(loader: Loader, number: int = 0) -> list[Batch]:
    loader.sampler.set_epoch(number)
    return list(loader)


def assert_equal(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        assert one.labels.tolist() == other.labels.tolist()
        assert torch.equal(one.images, other.images)


def rows(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.indices for batch in batches]).tolist()


def test_every_image_comes_once_with_its_label() -> None:
    samples = digits()
    batches = epoch(make_loader(samples, batch_size=4, shuffle=True))
    assert [batch.images.shape for batch in batches] == [(4, 1, 8, 8), (4, 1, 8, 8), (2, 1, 8, 8)]
    assert sorted(rows(batches)) == list(range(10))
    labels = torch.cat([batch.labels for batch in batches])
    assert labels.dtype == torch.long
    assert labels.tolist() == [samples.source.labels[row] for row in rows(batches)]


def test_validation_keeps_the_order_and_training_drops_the_rest() -> None:
    assert rows(epoch(make_loader(digits(), batch_size=4, shuffle=False))) == list(range(10))
    assert len(rows(epoch(make_loader(digits(), batch_size=4, shuffle=True, drop_last=True)))) == 8


def test_workers_change_nothing() -> None:
    here = make_loader(digits(), batch_size=3, shuffle=True, seed=5)
    there = make_loader(digits(), batch_size=3, shuffle=True, seed=5, workers=2)
    for number in (0, 1):
        assert_equal(epoch(here, number), epoch(there, number))


def test_order_and_augmentation_depend_on_seed_and_epoch() -> None:
    runs = [
        epoch(make_loader(digits(), batch_size=10, shuffle=True, seed=seed), number)[0]
        for seed, number in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert_equal([runs[0]], [runs[3]])
    assert len({tuple(batch.indices.tolist()) for batch in runs}) == 3
    sixes = [batch.images[batch.indices.tolist().index(6)] for batch in runs]
    assert not torch.equal(sixes[0], sixes[1])
    assert not torch.equal(sixes[0], sixes[2])


def test_augmentation_does_not_depend_on_the_batch() -> None:
    large = epoch(make_loader(digits(), batch_size=10, shuffle=False))[0]
    small = epoch(make_loader(digits(), batch_size=3, shuffle=False))
    assert torch.equal(large.images, torch.cat([batch.images for batch in small]))


def test_loading_here_leaves_the_random_states_alone() -> None:
    def draws() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    def seed() -> None:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)

    seed()
    expected = draws()
    seed()
    epoch(make_loader(digits(), batch_size=4, shuffle=True))
    assert draws() == expected


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("done", [0, 1, 3, 4])
def test_resumes_within_an_epoch(done: int, workers: int) -> None:
    def loader() -> Loader:
        return make_loader(digits(), batch_size=3, shuffle=True, workers=workers)

    whole = loader()
    batches = epoch(whole, 7) + epoch(whole, 8)
    stopped = loader()
    stopped.sampler.set_epoch(7)
    iterator = iter(stopped)
    for _ in range(done):
        next(iterator)
    state = stopped.state_dict()
    assert state == ({"epoch": 8, "batches": 0} if done == 4 else {"epoch": 7, "batches": done})
    resumed = loader()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert len(resumed) == 4
    rest = list(resumed)
    if state["epoch"] == 7:
        rest += epoch(resumed, 8)
    assert_equal(rest, batches[done:])


def test_lightning_resumes_bit_for_bit(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Linear(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(64, 10)
            self.rows: list[int] = []

        def training_step(self, batch: Batch) -> torch.Tensor:
            self.rows += batch.indices.tolist()
            return torch.nn.functional.cross_entropy(self.layer(batch.images.flatten(1)), batch.labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(*callbacks: object, resume: Path | None = None) -> Linear:
        model = Linear()
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", callbacks=list(callbacks), logger=False,
            enable_checkpointing=bool(callbacks), enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, make_loader(digits(), batch_size=3, shuffle=True), ckpt_path=resume)
        return model

    whole = fit(ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1))
    for step, rows_left in ((2, 14), (4, 10), (5, 7)):
        resumed = fit(resume=tmp_path / f"step={step}.ckpt")
        assert resumed.rows == whole.rows[-rows_left:]
        assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_an_abandoned_epoch_starts_again() -> None:
    loader = make_loader(digits(), batch_size=3, shuffle=True)
    next(iter(loader))
    assert len(rows(epoch(loader))) == 10


@pytest.fixture
def damaged(class_folders: MakeFolders) -> ImageSource:
    """Twelve images, of which the first cat is cut short and all the owls are empty."""
    root = class_folders()
    cat = root / "cat" / "0.png"
    cat.write_bytes(cat.read_bytes()[:60])
    for owl in (root / "owl").iterdir():
        owl.write_bytes(b"")
    source = open_split(DataOptions(path=str(root), val_fraction=0.01), "train")
    return subset(source, sorted(range(len(source)), key=source.name))


def named(source: ImageSource, batch: Batch) -> list[str]:
    """The last two parts of the names of a batch's skipped images."""
    return ["/".join(line.split(": ")[0].split("/")[-2:]) for line in batch.skipped]


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_skipped_and_named(damaged: ImageSource, workers: int) -> None:
    samples = labelled_images(damaged, eval_transform(COLOUR))
    batches = epoch(make_loader(samples, batch_size=7, shuffle=False, workers=workers))
    unreadable = [name for batch in batches for name in named(damaged, batch)]
    expected = [damaged.name(row) for row in range(len(damaged))]
    assert unreadable == ["/".join(name.split("/")[-2:]) for name in expected if "/owl/" in name or "cat/0" in name]
    assert sum(len(batch.images) for batch in batches) == len(damaged) - len(unreadable)
    assert all(len(batch.labels) == len(batch.indices) == len(batch.images) for batch in batches)


def test_batch_without_a_readable_image_has_size_0(damaged: ImageSource) -> None:
    owls = subset(damaged, [row for row in range(len(damaged)) if "/owl/" in damaged.name(row)])
    (batch,) = make_loader(labelled_images(owls, eval_transform(COLOUR)), batch_size=7, shuffle=False)
    assert (len(batch.images), len(batch.labels), len(batch.indices)) == (0, 0, 0)
    assert len(batch.skipped) == len(owls) > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_strict_stops_with_one_sentence(damaged: ImageSource, workers: int) -> None:
    samples = labelled_images(damaged, eval_transform(COLOUR), strict=True)
    with pytest.raises(UnreadableImage, match=r"^\S+\.png: [^\n]+\.$"):
        epoch(make_loader(samples, batch_size=7, shuffle=False, workers=workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_wrong_channels_stop_with_one_sentence(class_folders: MakeFolders, workers: int) -> None:
    source = open_split(DataOptions(path=str(class_folders())), "train")
    samples = labelled_images(source, eval_transform(COLOUR), channels=4)
    with pytest.raises(ValueError, match=r"^\S+\.png has no transparency [^\n]+$"):
        epoch(make_loader(samples, batch_size=7, shuffle=False, workers=workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_trouble_of_the_machine_stops_with_one_sentence(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "photo.png")

    samples = digits()
    monkeypatch.setattr(type(samples.source), "image", fail)
    with pytest.raises(OSError, match=r"^\[Errno 24\] Too many open files: 'photo\.png'$"):
        epoch(make_loader(samples, batch_size=7, shuffle=False, workers=workers))


@pytest.mark.parametrize(("count", "size", "drop_last"), [(0, 4, False), (3, 4, True)])
def test_too_few_images_are_refused(count: int, size: int, drop_last: bool) -> None:
    with pytest.raises(ValueError, match=rf"{count} samples do not fill a batch of {size}"):
        make_loader(digits(count), batch_size=size, shuffle=True, drop_last=drop_last)


@pytest.fixture
def shards(class_folders: MakeFolders, tmp_path: Path) -> Samples:
    """Sixteen images to train on, in some shards."""
    list(pack(DataOptions(path=str(class_folders(counts={"cat": 10, "dog": 10}))), tmp_path / "shards", size=400))
    return labelled_images(open_split(DataOptions(path=str(tmp_path / "shards")), "train"), eval_transform(COLOUR))


def test_fewer_shards_than_processes_are_refused(shards: Samples) -> None:
    count = len(set(shards.source.shards()))
    with pytest.raises(
        ValueError, match=rf"{count} shards are fewer than the {count + 1} processes .*make more"
    ) as caught:
        make_loader(shards, batch_size=1, shuffle=True, processes=count + 1, order="shards")
    assert "\n" not in str(caught.value)


def test_more_workers_than_shards_read_them_all(shards: Samples) -> None:
    """A worker reads a batch, wherever it lies: shards are no unit of theirs."""
    workers = len(set(shards.source.shards())) + 1
    here = make_loader(shards, batch_size=3, shuffle=True, order="shards")
    there = make_loader(shards, batch_size=3, shuffle=True, order="shards", workers=workers)
    assert_equal(epoch(here), epoch(there))


def test_the_time_that_images_take_is_measured() -> None:
    samples = digits()
    for workers in (0, 2):
        loader = make_loader(samples, batch_size=5, shuffle=True, workers=workers)
        assert loader.rate() == 0
        batches = epoch(loader)
        assert loader.images == 10
        assert 0 < loader.worked == pytest.approx(sum(batch.seconds for batch in batches))
        assert loader.rate() == pytest.approx(max(workers, 1) * 10 / loader.worked)
        assert loader.waited > 0
        loader.reset_clock()
        assert loader.rate() == loader.waited == 0


def test_other_data_are_known() -> None:
    """By their number and by their labels, not by batch or order."""
    ours = make_loader(digits(10), batch_size=3, shuffle=True).data
    assert ours == make_loader(digits(10), batch_size=4, shuffle=False).data
    assert ours != make_loader(digits(9), batch_size=3, shuffle=True).data
    source = open_split(DataOptions(path="digits"), "val")
    other = next(row for row in range(10, len(source)) if source.labels[row] != source.labels[9])
    others = labelled_images(subset(source, [*range(9), other]), train_transform(AugmentOptions(), GRAY), 1)
    assert ours != make_loader(others, batch_size=3, shuffle=True).data


@pytest.mark.realdata
def test_cifar10_batches_are_the_same_from_workers(real_data: Path) -> None:
    source = subset(open_split(DataOptions(path=str(real_data / "cifar10")), "train"), range(5000, 5096))
    samples = labelled_images(source, train_transform(AugmentOptions(crop="pad"), COLOUR))
    here = epoch(make_loader(samples, batch_size=32, shuffle=True))
    assert_equal(here, epoch(make_loader(samples, batch_size=32, shuffle=True, workers=2)))
    assert here[0].images.shape == (32, 3, 16, 16)


def test_a_key_is_all_that_a_sample_depends_on() -> None:
    samples = digits()
    key = SampleKey(seed=3, epoch=2, row=1)
    first, other = samples[key], samples[key._replace(row=2)]
    again = samples[key]
    assert isinstance(first, Sample)
    assert isinstance(again, Sample)
    assert isinstance(other, Sample)
    assert torch.equal(first.image, again.image)
    assert first.label == samples.source.labels[1]


def rounds(loader: Loader, count: int) -> list[Batch]:
    return [batch for number in range(count) for batch in epoch(loader, number)]


def test_rounds_of_batches_are_the_epochs_one_after_another() -> None:
    """Whatever their length, and each batch knows its epoch."""
    expected = rounds(make_loader(digits(), batch_size=3, shuffle=True), 5)
    for length in (1, 3, 5, 10):
        loader = make_loader(digits(), batch_size=3, shuffle=True, batches=length)
        assert len(loader) == length
        found = rounds(loader, 20 // length)
        assert_equal(found, expected[: len(found)])
        assert [batch.epoch for batch in found] == [number // 4 for number in range(len(found))]
        assert loader.epochs(20 // length) == pytest.approx(len(found) / 4)


def test_a_round_may_be_several_epochs() -> None:
    loader = make_loader(digits(), batch_size=3, shuffle=True, epochs=2)
    assert_equal(rounds(loader, 2), rounds(make_loader(digits(), batch_size=3, shuffle=True), 4))
    assert loader.epochs(2) == 4


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("done", [0, 1, 5, 6])
def test_resumes_within_a_round(done: int, workers: int) -> None:
    def loader() -> Loader:
        return make_loader(digits(), batch_size=3, shuffle=True, workers=workers, batches=6)

    batches = rounds(loader(), 3)
    stopped = loader()
    stopped.sampler.set_epoch(1)
    iterator = iter(stopped)
    for _ in range(done):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    rest = list(resumed) + ([] if done == 6 else epoch(resumed, 2))
    assert_equal(rest, batches[6 + done :])


def test_a_row_drawn_twice_is_twice_in_its_batch(shards: Samples) -> None:
    """As resampled shards bring it about."""
    loader = make_loader(shards, batch_size=len(shards), shuffle=True, order="resampled", buffer=1)
    drawn = [epoch(loader, number)[0] for number in range(5)]
    assert any(len(set(rows([batch]))) < len(shards) for batch in drawn)
    assert all(len(batch.images) == len(batch.indices) == len(shards) for batch in drawn)


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_of_any_kind_are_loaded_alike(toy: ModuleType, workers: int) -> None:
    """Unreadable ones named, randomness in reading and transforming seeded by the key, order and time as ever."""

    def loader(workers: int) -> Loader:
        return make_loader(toy.gray_samples(toy.Grays(20)), batch_size=6, shuffle=True, workers=workers)

    here, there = epoch(loader(0)), epoch(loader(workers))
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.skipped == other.skipped
        assert (one.levels * 100).round().int().tolist() == [row * 37 % 100 for row in one.indices.tolist()]
        assert other.seconds > 0
    assert sorted(line for batch in here for line in batch.skipped) == ["level 13: broken.", "level 6: broken."]
    later = epoch(loader(0), 1)
    images = [
        {row: x for b in run for row, x in zip(b.indices.tolist(), b.images, strict=True)} for run in (here, later)
    ]
    assert not any(torch.equal(images[0][row], images[1][row]) for row in images[0])


def test_strict_stops_at_rows_of_any_kind(toy: ModuleType) -> None:
    samples = toy.gray_samples(toy.Grays(20))
    samples.strict = True
    with pytest.raises(UnreadableImage, match=r"^level 6: broken\.$"):
        epoch(make_loader(samples, batch_size=20, shuffle=False))

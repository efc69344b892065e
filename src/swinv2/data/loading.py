"""Batches of transformed images, the same for any number of worker processes, resumable within an epoch."""

from __future__ import annotations

import copy
import hashlib
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from swinv2.data.image import UnreadableImage
from swinv2.data.options import Order
from swinv2.data.order import Plan
from swinv2.data.sources import ImageSource
from swinv2.data.transforms import Transform


class SampleKey(NamedTuple):
    """What a sample depends on: its augmentation is a function of all three."""

    seed: int
    epoch: int
    row: int


class Sample(NamedTuple):
    """One image [C, H, W], its label, its row in the source, and the seconds that reading and transforming it took."""

    image: Tensor
    label: int
    row: int
    seconds: float = 0.0


class Batch(NamedTuple):
    """Images that could be read, and "NAME: reason" for each that could not; size 0 where none could."""

    images: Tensor  # [B, C, H, W]; [0] in a batch of size 0
    labels: Tensor  # [B]
    indices: Tensor  # [B], rows in the source
    skipped: tuple[str, ...]
    seconds: float = 0.0  # that its images took in the process that read them


Problem = ValueError | OSError | MemoryError
"""What reading an image may raise; only `UnreadableImage` is passed over."""


class Samples(Dataset["Sample | Problem"]):
    """A source's images, transformed.

    A worker process would bury an error in a traceback, so an image's error is the item; `Loader` raises or skips it.

    Args:
        source: The images.
        transform: From a Pillow image to [C, H, W]; its only randomness is torch's.
        channels: Channels that the transform expects: 1, 3 or 4.
        strict: Let an unreadable image stop the loader, rather than be skipped.
    """

    def __init__(self, source: ImageSource, transform: Transform, channels: int = 3, strict: bool = False) -> None:
        self.source = source
        self.transform = transform
        self.channels = channels
        self.strict = strict

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> Sample | Problem:
        started = time.perf_counter()
        try:
            image = self.source.image(key.row, self.channels)
        except (ValueError, OSError, MemoryError) as error:
            return error
        with seeded(key):
            image_tensor = self.transform(image)
        return Sample(image_tensor, self.source.labels[key.row], key.row, time.perf_counter() - started)

    def batch(self, items: Sequence[Sample | Problem]) -> Batch | Problem:
        """See `collate`."""
        return collate(items, self.strict)


@contextmanager
def seeded(key: SampleKey) -> Iterator[None]:
    """Seed torch's CPU random state from the key, and put it back afterwards."""
    digest = hashlib.blake2b(repr(tuple(key)).encode(), digest_size=8).digest()
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(int.from_bytes(digest, "little"))  # torch.manual_seed reseeds the GPUs too
    try:
        yield
    finally:
        torch.set_rng_state(state)


def collate(items: Sequence[Sample | Problem], strict: bool = False) -> Batch | Problem:
    """A batch without the unreadable images, or the first error that must stop the loader."""
    fatal = first_fatal(items, strict)
    if fatal:
        return fatal
    samples = [item for item in items if isinstance(item, Sample)]
    return Batch(
        images=torch.stack([sample.image for sample in samples]) if samples else torch.empty(0),
        labels=torch.tensor([sample.label for sample in samples], dtype=torch.long),
        indices=torch.tensor([sample.row for sample in samples], dtype=torch.long),
        skipped=tuple(str(item) for item in items if isinstance(item, Exception)),
        seconds=sum(sample.seconds for sample in samples),
    )


def first_fatal(items: Sequence[Any], strict: bool) -> Problem | None:
    """The first error among items that must stop the loader, if there is one."""
    errors = (item for item in items if isinstance(item, Problem))
    return next((error for error in errors if strict or not isinstance(error, UnreadableImage)), None)


class Groups(Dataset[list[Any]]):
    """Samples by the list; a list may be empty, for a process that a small last batch leaves nothing."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, keys: list[SampleKey]) -> list[Sample | Problem]:
        return [self.samples[key] for key in keys]


class EpochSampler(Sampler[list[SampleKey]]):
    """Keys of the batches of one epoch, as planned; it begins at batch `start`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return len(self.plan)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        seed, epoch = self.plan.seed, self.epoch
        for rows in self.plan.batches(epoch)[self.start :]:
            yield [SampleKey(seed, epoch, row) for row in rows.tolist()]


class Loader(DataLoader[Any]):
    """A DataLoader of `Batch` that raises its samples' fatal errors and resumes after the batches handed out.

    Attributes:
        waited: Seconds that whoever iterates has spent waiting for batches.
        worked: Seconds that processes have spent making the images of these batches.
        images: How many images these were.
    """

    sampler: EpochSampler
    dataset: Groups
    handed_out = 0
    resume_at = 0
    waited = worked = 0.0
    images = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.handed_out, self.resume_at = self.resume_at, 0
        self.sampler.start = self.handed_out
        batches, asked = super().__iter__(), time.perf_counter()
        for batch in batches:
            if isinstance(batch, Exception):
                raise copy.copy(batch)  # raising `batch` makes a cycle with this frame: workers linger 5 s
            self.handed_out += 1
            self.waited += time.perf_counter() - asked
            self.worked += batch.seconds
            self.images += len(batch.indices)
            yield batch
            asked = time.perf_counter()

    def rate(self) -> float:
        """Images a second that the workers (or this process, without any) make where nobody keeps them waiting."""
        return max(self.num_workers, 1) * self.images / self.worked if self.worked else 0.0

    def reset_clock(self) -> None:
        """Begin to measure anew."""
        self.waited, self.worked, self.images = 0.0, 0.0, 0

    @cached_property
    def data(self) -> dict[str, Any]:
        """By which the same data are known again: how many images, and a hash of their labels."""
        labels = array("q", self.dataset.samples.source.labels)
        return {"images": len(labels), "labels": hashlib.blake2b(labels.tobytes(), digest_size=8).hexdigest()}

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the batches of it that are done; a whole epoch is the next one's start."""
        finished = self.handed_out >= len(self)
        return {"epoch": self.sampler.epoch + finished, "batches": 0 if finished else self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration go on where `state_dict` was taken."""
        self.sampler.set_epoch(state["epoch"])
        self.handed_out = self.resume_at = state["batches"]


def make_loader(
    samples: Samples,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int = 0,
    workers: int = 0,
    drop_last: bool = False,
    rank: int = 0,
    processes: int = 1,
    order: Order = "images",
    buffer: int = 4096,
) -> Loader:
    """Load batches; `loader.sampler.set_epoch` gives each epoch its own order and augmentation.

    Args:
        samples: The images.
        batch_size: Images of a batch, in each process.
        shuffle: Whether to shuffle; else all else but the process has no meaning.
        seed: Of order and augmentation.
        workers: Processes that read; 0 reads here.
        drop_last: Leave out what does not fill a batch in every process.
        rank: Which of the processes this is: each sees other images, and together they see all, once. By the shard
            this holds where all processes are dealt the same number of images.
        processes: How many train, or validate, together.
        order: See `swinv2.data.options.DataOptions`.
        buffer: See there.

    Raises:
        ValueError: There are no images, not one whole batch where the last, partial one is dropped, fewer shards than
            processes, or no shards to order by.
    """
    if len(samples) < (batch_size * processes if drop_last else 1):
        raise ValueError(
            f"{len(samples)} images do not fill a batch of {batch_size * processes}: lower the batch size."
        )
    plan = Plan(
        length=len(samples),
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        drop_last=drop_last,
        rank=rank,
        processes=processes,
        order=order,
        shards=_shards(samples.source, processes) if shuffle and order != "images" else (),
        buffer=buffer,
    )
    return Loader(
        Groups(samples),
        batch_size=None,
        sampler=EpochSampler(plan),
        num_workers=workers,
        collate_fn=samples.batch,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def _shards(source: ImageSource, processes: int) -> Sequence[int]:
    shards = source.shards()
    if len(set(shards)) < processes:
        raise ValueError(
            f"{len(set(shards))} shards are fewer than the {processes} processes that train: make more and smaller "
            "ones with python -m swinv2.data.pack, or set data.order to images."
        )
    return shards

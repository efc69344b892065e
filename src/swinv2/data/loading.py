"""Batches of samples, the same for any number of worker processes, resumable within an epoch.

A task brings a source, whose rows are read, a transform, which makes samples of what they hold, and a collate, which
makes batches of samples; `swinv2.data.labelled` has those of labelled images.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from swinv2.data.image import UnreadableImage
from swinv2.data.options import Order
from swinv2.data.order import Plan
from swinv2.data.sources.base import Source


class SampleKey(NamedTuple):
    """What a sample depends on: its augmentation is a function of all three."""

    seed: int
    epoch: int
    row: int


class AnyBatch(Protocol):
    """What the batches of all tasks have in common; as NamedTuples they are moved to a device as they are."""

    @property
    def indices(self) -> Tensor:
        """Rows of the samples in the source, [B]."""

    @property
    def skipped(self) -> Sequence[str]:
        """NAME: reason for each sample that could not be read."""

    @property
    def seconds(self) -> float:
        """That its samples took in the process that made them."""

    @property
    def epoch(self) -> int:
        """The pass over the data that it is of."""


PROBLEMS = (ValueError, OSError, MemoryError)
Problem = ValueError | OSError | MemoryError
"""What reading a row may raise; only `UnreadableImage` is passed over."""


class Samples(Dataset[Any]):
    """A source's rows, read and transformed.

    A worker process would bury an error in a traceback, so the error of a row is the item; `Loader` raises or skips it.

    Args:
        source: The rows.
        read: What a row holds; raises `UnreadableImage` with "NAME: reason" where that cannot be read.
        transform: From that to a sample. Its only randomness, and that of `read`, is torch's.
        collate: From a list of samples, which may be empty, and the fields of `AnyBatch` by name, to a batch.
        strict: Let an unreadable row stop the loader, rather than be skipped.
    """

    def __init__(
        self,
        source: Source,
        *,
        read: Callable[[int], Any],
        transform: Callable[[Any], Any],
        collate: Callable[..., AnyBatch],
        strict: bool = False,
    ) -> None:
        self.source = source
        self.read = read
        self.transform = transform
        self.collate = collate
        self.strict = strict

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> Any | Problem:
        with seeded(key):
            try:
                held = self.read(key.row)
            except PROBLEMS as error:
                return error
            return self.transform(held)


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


class Groups(Dataset[Any]):
    """Batches by the list of their keys, which is empty for a process that a small last batch leaves nothing."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, keys: Sequence[SampleKey]) -> AnyBatch | Problem:
        """The batch without what is unreadable, or the first error that must stop the loader."""
        started = time.perf_counter()
        items = [self.samples[key] for key in keys]
        seconds = time.perf_counter() - started
        errors = [item for item in items if isinstance(item, PROBLEMS)]
        fatal = [error for error in errors if self.samples.strict or not isinstance(error, UnreadableImage)]
        if fatal:
            return fatal[0]
        read = [place for place, item in enumerate(items) if not isinstance(item, PROBLEMS)]
        return self.samples.collate(
            [items[place] for place in read],
            indices=torch.tensor([keys[place].row for place in read], dtype=torch.long),
            skipped=tuple(map(str, errors)),
            seconds=seconds,
            epoch=keys[0].epoch if keys else 0,
        )


class EpochSampler(Sampler[list[SampleKey]]):
    """Keys of the batches of a round, as planned; it begins at batch `start`.

    A round is an epoch, or, with a length in batches, so much of the endless sequence of epochs. Lightning calls it an
    epoch in any case.
    """

    def __init__(self, plan: Plan, length: int | None = None) -> None:
        self.plan = plan
        self.length = length or len(plan)
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Choose the round that the next iteration goes through."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[SampleKey]]:
        place, end = self.epoch * self.length + self.start, (self.epoch + 1) * self.length
        while place < end:
            epoch, done = divmod(place, len(self.plan))
            batches = self.plan.batches(epoch)[done : done + end - place]
            for rows in batches:
                yield [SampleKey(self.plan.seed, epoch, row) for row in rows.tolist()]
            place += len(batches)


class Loader(DataLoader[Any]):
    """A DataLoader of batches that raises its samples' fatal errors and resumes after the batches handed out.

    Attributes:
        waited: Seconds that whoever iterates has spent waiting for batches.
        worked: Seconds that processes have spent making the samples of these batches.
        images: How many samples these were.
    """

    sampler: EpochSampler
    dataset: Groups
    handed_out = 0
    resume_at = 0
    waited = worked = 0.0
    images = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
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
        """Samples a second that the workers (or this process, without any) make where nobody keeps them waiting."""
        return max(self.num_workers, 1) * self.images / self.worked if self.worked else 0.0

    def reset_clock(self) -> None:
        """Begin to measure anew."""
        self.waited, self.worked, self.images = 0.0, 0.0, 0

    def epochs(self, rounds: float) -> float:
        """Passes over the data in so many rounds."""
        return rounds * len(self) / len(self.sampler.plan)

    @cached_property
    def data(self) -> dict[str, Any]:
        """By which the same data are known again: how many rows, and a hash of their labels."""
        source = self.dataset.samples.source
        return {"images": len(source), "labels": hashlib.blake2b(source.signature(), digest_size=8).hexdigest()}

    def state_dict(self) -> dict[str, int]:
        """The round, and the batches of it that are done; a whole round is the next one's start."""
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
    epochs: int = 1,
    batches: int | None = None,
) -> Loader:
    """Load batches; `loader.sampler.set_epoch` gives each epoch its own order and augmentation.

    Args:
        samples: The samples.
        batch_size: Samples of a batch, in each process.
        shuffle: Whether to shuffle; else all else but the process has no meaning.
        seed: Of order and augmentation.
        workers: Processes that read; 0 reads here.
        drop_last: Leave out what does not fill a batch in every process.
        rank: Which of the processes this is: each sees other samples, and together they see all, once. By the shard
            this holds where all processes are dealt the same number of samples.
        processes: How many train, or validate, together.
        order: See `swinv2.data.options.DataOptions`.
        buffer: See there.
        epochs: Passes over the data that one iteration makes.
        batches: How many batches one iteration has, instead of whole passes: the next one goes on from there.

    Raises:
        ValueError: There are no samples, not one whole batch where the last, partial one is dropped, fewer shards than
            processes, or no shards to order by.
    """
    if len(samples) < (batch_size * processes if drop_last else 1):
        raise ValueError(
            f"{len(samples)} samples do not fill a batch of {batch_size * processes}: lower the batch size."
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
        sampler=EpochSampler(plan, batches or epochs * len(plan)),
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def _as_it_is(batch: Any) -> Any:
    """`Groups` has collated it."""
    return batch


def _shards(source: Source, processes: int) -> Sequence[int]:
    shards = source.shards()
    if len(set(shards)) < processes:
        raise ValueError(
            f"{len(set(shards))} shards are fewer than the {processes} processes that train: make more and smaller "
            "ones with python -m swinv2.data.pack, or set data.order to images."
        )
    return shards

"""Batches of transformed images, the same for any number of worker processes, resumable within an epoch."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from swinv2.data.image import UnreadableImage
from swinv2.data.sources import ImageSource
from swinv2.data.transforms import Transform


class SampleKey(NamedTuple):
    """What a sample depends on: its augmentation is a function of all three."""

    seed: int
    epoch: int
    row: int


class Sample(NamedTuple):
    """One image [C, H, W], its label, and its row in the source."""

    image: Tensor
    label: int
    row: int


class Batch(NamedTuple):
    """Images that could be read, and "NAME: reason" for each that could not; size 0 where none could."""

    images: Tensor  # [B, C, H, W]; [0] in a batch of size 0
    labels: Tensor  # [B]
    indices: Tensor  # [B], rows in the source
    skipped: tuple[str, ...]


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
        try:
            image = self.source.image(key.row, self.channels)
        except (ValueError, OSError, MemoryError) as error:
            return error
        with seeded(key):
            return Sample(self.transform(image), self.source.labels[key.row], key.row)


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
    errors = [item for item in items if not isinstance(item, Sample)]
    fatal = [error for error in errors if strict or not isinstance(error, UnreadableImage)]
    if fatal:
        return fatal[0]
    samples = [item for item in items if isinstance(item, Sample)]
    return Batch(
        images=torch.stack([sample.image for sample in samples]) if samples else torch.empty(0),
        labels=torch.tensor([sample.label for sample in samples], dtype=torch.long),
        indices=torch.tensor([sample.row for sample in samples], dtype=torch.long),
        skipped=tuple(map(str, errors)),
    )


class EpochSampler(Sampler[SampleKey]):
    """Keys of one epoch, in an order that depends on (seed, epoch) alone; it begins at position `start`."""

    def __init__(self, length: int, shuffle: bool, seed: int) -> None:
        self.length, self.shuffle, self.seed = length, shuffle, seed
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[SampleKey]:
        order = np.arange(self.length)
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        return (SampleKey(self.seed, self.epoch, row) for row in order[self.start :].tolist())


class Loader(DataLoader[Any]):
    """A DataLoader of `Batch` that raises its samples' fatal errors and resumes after the batches handed out."""

    sampler: EpochSampler
    handed_out = 0
    resume_at = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.handed_out, self.resume_at = self.resume_at, 0
        self.sampler.start = self.handed_out * (self.batch_size or 1)
        for batch in super().__iter__():
            if isinstance(batch, Exception):
                raise copy.copy(batch)  # raising `batch` makes a cycle with this frame: workers linger 5 s
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the batches of it that are done; a whole epoch is the next one's start."""
        finished = self.handed_out >= len(self)
        return {"epoch": self.sampler.epoch + finished, "batches": 0 if finished else self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration go on where `state_dict` was taken."""
        self.sampler.set_epoch(state["epoch"])
        self.handed_out = self.resume_at = state["batches"]


def make_loader(
    samples: Samples, *, batch_size: int, shuffle: bool, seed: int = 0, workers: int = 0, drop_last: bool = False
) -> Loader:
    """Load batches; `loader.sampler.set_epoch` gives each epoch its own order and augmentation.

    Raises:
        ValueError: There are no images, or not one whole batch where the last, partial one is dropped.
    """
    if len(samples) < (batch_size if drop_last else 1):
        raise ValueError(f"{len(samples)} images do not fill a batch of {batch_size}: lower the batch size.")
    return Loader(
        samples,
        batch_size=batch_size,
        sampler=EpochSampler(len(samples), shuffle, seed),
        num_workers=workers,
        collate_fn=partial(collate, strict=samples.strict),
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )

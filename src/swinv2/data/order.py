"""In which order an epoch goes through the images, and which of them each process sees: pure functions of the seed.

An epoch's order is made anew from (seed, epoch), whatever was done before, so a run can stop and go on anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swinv2.data.options import Order

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How images become batches, in one process of several.

    Args:
        length: Images of the source.
        batch_size: Images of a batch, in each process.
        shuffle: Another order in every epoch; else that of the source, and no order but "images".
        seed: Of the order.
        drop_last: Leave out what does not fill a batch in every process.
        rank: This process.
        processes: All of them; each image is in one.
        order: images (of all in any order), shards (one after another), or resampled (shards drawn with replacement).
        shards: The shard of each image, for the last two.
        buffer: Images within which the last two shuffle.
    """

    length: int
    batch_size: int
    shuffle: bool
    seed: int = 0
    drop_last: bool = False
    rank: int = 0
    processes: int = 1
    order: Order = "images"
    shards: Sequence[int] = ()
    buffer: int = 4096

    def __len__(self) -> int:
        """Batches of an epoch, the same number in every process, which all step together."""
        everyones = self.batch_size * self.processes
        return self.length // everyones if self.drop_last else -(-self.length // everyones)

    def batches(self, epoch: int) -> list[Rows]:
        """The rows of each of this process's batches; without `drop_last` the last may be smaller, or empty."""
        if self.shuffle and self.order != "images":
            return self._by_shard(epoch)
        rows = np.arange(self.length)
        if self.shuffle:
            np.random.default_rng((self.seed, epoch)).shuffle(rows)
        everyones = self.batch_size * self.processes
        blocks = [rows[start : start + everyones] for start in range(0, len(self) * everyones, everyones)]
        return [self._share(block) for block in blocks]

    def _share(self, block: Rows) -> Rows:
        """Consecutive rows of a whole block, so that all see together what one would; a fair part of a rest."""
        if len(block) < self.batch_size * self.processes:
            return block[self.rank :: self.processes]
        return block[self.rank * self.batch_size :][: self.batch_size]

    def _by_shard(self, epoch: int) -> list[Rows]:
        """Deal the shards to the processes anew, so that each reads its own from front to back."""
        need = len(self) * self.batch_size
        random = np.random.default_rng((self.seed, epoch))
        where = np.asarray(self.shards)
        rows_of = np.split(np.argsort(where, kind="stable"), np.cumsum(np.bincount(where))[:-1])
        dealt = random.permutation(len(rows_of))[self.rank :: self.processes]
        own = np.random.default_rng((self.seed, epoch, self.rank))
        rows = [rows_of[shard] for shard in dealt]
        if self.order == "resampled":
            rows = []
        lacking = need - sum(map(len, rows))
        while lacking > 0:  # also where a process was dealt small shards
            rows.append(rows_of[own.integers(len(rows_of))])
            lacking -= len(rows[-1])
        line = np.concatenate(rows)
        line = line[np.argsort(np.arange(len(line)) + own.uniform(0, self.buffer, len(line)), kind="stable")]
        return [line[start : start + self.batch_size] for start in range(0, need, self.batch_size)]

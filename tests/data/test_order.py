from __future__ import annotations

import itertools

import numpy as np
import pytest

from swinv2.data.order import Plan

SHARDS = [row // 10 for row in range(95)]  # ten shards, the last one of five


def rows(plan: Plan, epoch: int = 0) -> list[int]:
    return np.concatenate(plan.batches(epoch)).tolist()


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_together_see_what_one_sees(processes: int) -> None:
    """Step by step, so that their gradients are those of one process with their batches together."""
    one = Plan(length=95, batch_size=12, shuffle=True, drop_last=True).batches(3)
    shared = [
        Plan(
            length=95, batch_size=12 // processes, shuffle=True, drop_last=True, rank=rank, processes=processes
        ).batches(3)
        for rank in range(processes)
    ]
    assert len(one) == 7
    for step, batch in enumerate(one):
        assert np.concatenate([parts[step] for parts in shared]).tolist() == batch.tolist()


@pytest.mark.parametrize(("length", "processes"), [(7, 2), (8, 2), (9, 4), (1, 3), (33, 4)])
def test_validation_sees_every_image_once_in_equally_many_batches(length: int, processes: int) -> None:
    plans = [
        Plan(length=length, batch_size=4, shuffle=False, rank=rank, processes=processes) for rank in range(processes)
    ]
    assert sorted(row for plan in plans for row in rows(plan)) == list(range(length))
    assert len({len(plan.batches(0)) for plan in plans} | {len(plan) for plan in plans}) == 1
    counts = [len(rows(plan)) for plan in plans]
    assert max(counts) - min(counts) <= 4


def test_shards_are_dealt_and_read_from_front_to_back() -> None:
    plans = [
        Plan(
            length=95, batch_size=5, shuffle=True, rank=rank, processes=2, order="shards", shards=SHARDS, buffer=1,
            drop_last=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    for epoch in (0, 1):
        each = [rows(plan, epoch) for plan in plans]
        assert not set(each[0]) & set(each[1])
        for line in each:
            assert len(line) == len(set(line)) == 45
            switches = sum(SHARDS[a] != SHARDS[b] for a, b in itertools.pairwise(line))
            assert switches <= 5
            assert all(b == a + 1 for a, b in itertools.pairwise(line) if SHARDS[a] == SHARDS[b])
    assert rows(plans[0], 0) != rows(plans[0], 1)
    assert rows(plans[0], 1) == rows(plans[0], 1)


def test_the_buffer_shuffles_near_and_not_far() -> None:
    def far(buffer: int) -> float:
        plan = Plan(length=1000, batch_size=10, shuffle=True, order="shards", shards=[0] * 1000, buffer=buffer)
        line = rows(plan)
        assert sorted(line) == list(range(1000))
        return max(abs(place - row) for place, row in enumerate(line))

    assert far(1) == 0
    assert 50 < far(100) <= 100
    assert far(10_000) > 500


def test_resampled_shards_come_with_replacement() -> None:
    plan = Plan(length=95, batch_size=5, shuffle=True, order="resampled", shards=SHARDS, buffer=1)
    epochs = [rows(plan, epoch) for epoch in range(20)]
    assert all(len(line) == 95 for line in epochs)
    assert any(len(set(line)) < 80 for line in epochs)
    assert {SHARDS[row] for line in epochs for row in line} == set(range(10))

from __future__ import annotations

import pytest

from swinv2.study.fit import Machine, fitted
from swinv2.study.scales import BASES, changed
from swinv2.train.options import Recipe

SHALLOW = {"model.overrides.depths": [1, 1], "model.overrides.num_heads": [1, 2]}
PAPER = changed(
    BASES["paper"], {"model.name": "swinv2_nano", "model.image_size": 32, "model.window_size": 4, **SHALLOW}
)
SMALL = changed(BASES["digits"], SHALLOW)


def needs(recipe: Recipe) -> float:
    """GB that the planner tells of a machine without limits."""
    told, _ = fitted([recipe], Machine("cpu", 1, 10**15), "laptop")
    return float(told.split(", ")[-1].split(" GB")[0])


def test_what_fits_is_told_in_one_sentence() -> None:
    told, parts = fitted([SMALL], Machine("cpu", 1, 10**10), "laptop")
    assert parts == 1
    assert told.startswith("planned: swinv2_nano at 16 x 16, 64 images a step in 1 part, ")
    assert told.endswith(" GB of 10.0 GB on each cpu: it fits")


def test_a_batch_goes_in_parts_where_it_does_not_fit_whole() -> None:
    whole = needs(SMALL)
    capacity = int(0.7e9 * whole)
    told, parts = fitted([SMALL], Machine("cpu", 1, capacity), "laptop")
    assert parts in (2, 4)
    assert f"in {parts} parts" in told


def test_the_largest_training_is_planned() -> None:
    wide = changed(SMALL, {"model.image_size": 64, "model.window_size": 16})
    told, _ = fitted([SMALL, wide, SMALL], Machine("cpu", 1, 10**10), "laptop")
    assert "swinv2_nano at 64 x 64" in told


def test_what_cannot_fit_is_refused_before_anything_runs() -> None:
    told = "--scale laptop does not fit here: swinv2_nano at 16 x 16, 64 images a step, needs "
    with pytest.raises(ValueError, match=told + r".* even image by image: lower --model\.image_size or"):
        fitted([SMALL], Machine("cpu", 1, 10**6), "laptop")


def test_the_papers_scale_is_refused_without_a_gpu() -> None:
    with pytest.raises(ValueError, match="TFLOP a step, and this machine has no GPU: use --scale laptop"):
        fitted([PAPER], Machine("cpu", 1, 10**12), "paper")


def test_the_papers_scale_is_planned_for_gpus() -> None:
    told, parts = fitted([PAPER], Machine("cuda", 8, 80 * 10**9), "paper")
    assert parts == 1
    assert "1024 images a step in 1 part" in told
    with pytest.raises(ValueError, match=r"does not fit here: .* even image by image: use --scale laptop"):
        fitted([PAPER], Machine("cuda", 8, 10**6), "paper")


def test_this_machine_has_memory() -> None:
    assert Machine.here().capacity > 10**8


def test_a_batch_of_any_size_goes_in_equal_parts() -> None:
    odd = changed(SMALL, {"trainer.batch_size": 50})
    ten = needs(changed(odd, {"trainer.batch_size": 10}))
    _, parts = fitted([odd], Machine("cpu", 1, int(1.01e9 * ten)), "laptop")
    assert parts == 5
    changed(odd, {"trainer.accumulate": parts}).trainer.loader_batch(1)


def test_the_devices_are_those_that_the_trainer_would_use() -> None:
    whole, half = (Machine.here(changed(SMALL, {"trainer.devices": count}).trainer) for count in (1, 2))
    assert (half.devices, half.capacity) == (2, whole.capacity // 2) or half.device == "cuda"
    assert Machine.here(changed(SMALL, {"trainer.accelerator": "cpu"}).trainer).device == "cpu"

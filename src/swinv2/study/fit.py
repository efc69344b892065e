"""Whether the trainings of a study fit this machine: the planner is asked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch

from swinv2.benchmark.report import number
from swinv2.config import Axes, SwinConfig
from swinv2.plan.document import gigabytes
from swinv2.plan.planning import Planner
from swinv2.plan.settings import Settings
from swinv2.train.engine_options import TrainerOptions
from swinv2.train.initial import fresh_config
from swinv2.train.options import Recipe
from swinv2.train.strategies import processes

PRECISIONS = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16", "bf16-true": "bf16"}
STRATEGIES = {"auto": "ddp", "deepspeed": "zero1"}
"""What the planner calls a trainer's strategy, where it has another name."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Machine:
    """What trains here: kind of device, how many, and bytes of memory of each."""

    device: str
    devices: int
    capacity: int

    @classmethod
    def here(cls, options: TrainerOptions | None = None) -> Machine:
        """What a trainer would use, by default all: GPUs, or the CPU with the memory that the process may have."""
        options = options or TrainerOptions()
        devices = processes(options)
        if options.accelerator != "cpu" and torch.cuda.is_available():
            return cls("cuda", devices, torch.cuda.get_device_properties(0).total_memory)
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
        whole = min(physical, int(limit)) if limit.isdecimal() else physical
        return cls("cpu", devices, whole // devices)


def fitted(recipes: Iterable[Recipe], machine: Machine | None, scale: str) -> tuple[str, int]:
    """What the planner says of the largest training, in one sentence; and in how many parts a batch must go.

    A SimMIM is planned as its encoder under a classifier's head, which is larger than its decoder. Without a machine,
    it is the one that this training would use here.

    Raises:
        ValueError: It does not fit even image by image, or the paper's scale is asked of a machine without a GPU.
    """
    recipe = max((each.completed() for each in recipes), key=_work)
    machine = machine or Machine.here(recipe.trainer)
    config = fresh_config(recipe, num_classes=1000)
    planner, share = Planner(config), max(1, recipe.trainer.batch_size // machine.devices)
    asked = _settings(recipe, machine)
    what = f"{recipe.model.name} at {' x '.join(map(str, asked.image_size))}, {recipe.trainer.batch_size} images a step"
    if scale == "paper" and machine.device == "cpu":
        flops = planner(replace(asked, batch=1)).step_flops * recipe.trainer.batch_size
        raise ValueError(
            f"--scale paper does not fit here: {what}, takes {number(flops / 1e12)} TFLOP a step, and this machine has "
            "no GPU: use --scale laptop."
        )

    def fits(batch: int) -> tuple[bool, str]:
        planned = planner(replace(asked, batch=batch))
        needs = f"{gigabytes(planned.peak.total)} GB of {gigabytes(machine.capacity)} GB on each {machine.device}"
        return planned.fits(machine.capacity), needs

    if not fits(1)[0]:
        remedy = "use --scale laptop" if scale == "paper" else "lower --model.image_size or take another model"
        raise ValueError(
            f"--scale {scale} does not fit here: {what}, needs {fits(1)[1]} even image by image: {remedy}."
        )
    parts = next(parts for parts in range(1, share + 1) if share % parts == 0 and fits(share // parts)[0])
    needs = fits(share // parts)[1]
    return f"planned: {what} in {parts} part{'s' if parts > 1 else ''}, {needs}: it fits", parts


def _settings(recipe: Recipe, machine: Machine) -> Settings:
    strategy = recipe.trainer.strategy
    backend, stages = recipe.attention.backend, recipe.attention.stages
    return Settings(
        image_size=recipe.model.size,
        batch=recipe.trainer.batch_size,
        precision=PRECISIONS[recipe.trainer.precision],
        devices=machine.devices,
        strategy=STRATEGIES.get(strategy, strategy) if machine.devices > 1 else "none",
        checkpointing="block" if recipe.checkpointing.every else "none",
        attention=backend,
        attention_stages=stages,
        budget_mb=recipe.attention.budget_mb,
        device=machine.device,
    )


def _work(recipe: Recipe) -> float:
    """Roughly what a step takes: tokens of every stage times their channels, and blocks."""
    config: SwinConfig = fresh_config(recipe, num_classes=0)
    grids: tuple[Axes, ...] = config.grids(recipe.model.size)
    blocks = zip(grids, config.dims, config.depths, strict=True)
    return recipe.trainer.batch_size * sum(prod(grid) * dim * depth for grid, dim, depth in blocks)

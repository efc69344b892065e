"""Write docs/plan_measured.md: plans beside measured steps, and what each technique saves.

    python scripts/plan_table.py

Steps are measured on the CPU, some minutes on one core; those on several devices as the first of so many ranks of
PyTorch's fake process group, whose collectives move nothing while all their buffers are real.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from swinv2.benchmark.contenders import images
from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.memory import usage
from swinv2.benchmark.report import markdown, number
from swinv2.config import SwinConfig, make_config
from swinv2.files import written_aside
from swinv2.model import SwinTransformer
from swinv2.model.block import SwinBlock
from swinv2.model.detect import detector_config
from swinv2.plan.document import gigabytes
from swinv2.plan.measuring import comparable, measured
from swinv2.plan.planning import Plan, Planner
from swinv2.plan.settings import Settings
from swinv2.plan.trace import configure
from swinv2.plan.work import Detection, Segmentation, Work

OUT = Path(__file__).parents[1] / "docs" / "plan_measured.md"
CPU = torch.device("cpu")

# Model, window, settings.
MEASURED: list[tuple[str, int, Settings]] = [
    (name, window, Settings(image_size=(size, size), batch=batch, device="cpu", **{"precision": "fp32", **rest}))
    for name, window, size, batch, rest in (
        ("swinv2_tiny", 8, 256, 4, {}),
        ("swinv2_tiny", 8, 256, 4, {"attention": "sdpa"}),
        ("swinv2_tiny", 8, 256, 4, {"checkpointing": "block"}),
        ("swinv2_tiny", 8, 256, 4, {"precision": "bf16"}),
        ("swinv2_tiny", 16, 256, 2, {"attention": "sdpa"}),
        ("swinv2_tiny", 24, 384, 1, {}),
        ("swinv2_tiny", 24, 384, 1, {"attention": "sdpa", "checkpointing": "block"}),
        ("swinv2_tiny", 32, 512, 1, {"attention": "sequential", "budget_mb": 64, "checkpointing": "block"}),
        ("swinv2_base", 16, 256, 1, {}),
        ("swinv2_base", 16, 512, 1, {"checkpointing": "block"}),
        ("swin_tiny", 7, 224, 4, {}),
        ("swinv2_tiny", 8, 256, 2, {"devices": 8, "strategy": "ddp"}),
        ("swinv2_tiny", 8, 256, 2, {"devices": 8, "strategy": "zero1"}),
        ("swinv2_tiny", 8, 256, 2, {"devices": 8, "strategy": "fsdp"}),
        ("swinv2_base", 8, 256, 1, {"devices": 8, "strategy": "fsdp", "checkpointing": "block"}),
        ("swinv2_base", 8, 256, 1, {"devices": 8, "strategy": "fsdp", "precision": "bf16"}),
    )
]
SMALL = make_config("swinv2_tiny", window_size=16, image_size=(320, 416))
HEADS: list[tuple[str, Work, Settings]] = [
    (
        f"swinv2_tiny, {label}",
        work,
        Settings(image_size=(320, 416), batch=1, device="cpu", precision="fp32", checkpointing=checkpointing),
    )
    for label, work, checkpointing in (
        ("UperNet", Segmentation(SMALL), "none"),
        ("Mask R-CNN", Detection(SMALL, detector_config("mask_rcnn")), "none"),
        ("HTC++", Detection(SMALL, detector_config("htc_plus_plus")), "block"),
    )
]
"""Models with other heads, and settings."""

TECHNIQUES = {
    "sequential": {"attention": "sequential", "attention_stages": (0, 1), "budget_mb": 64},
    "checkpointing": {"checkpointing": "block"},
    "zero1": {"strategy": "zero1"},
    "fsdp": {"strategy": "fsdp"},
}
TOGETHER = {
    "ddp": (),
    **{name: (name,) for name in TECHNIQUES},
    "sequential, checkpointing": ("sequential", "checkpointing"),
    "all with zero1": ("sequential", "checkpointing", "zero1"),
    "all with fsdp": ("sequential", "checkpointing", "fsdp"),
}
SIZES = {256: (16, 8), 384: (24, 8), 640: (40, 2), 1024: (32, 1), 1536: (32, 1)}
"""Image size: window, and images on each device."""


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="Markdown file (default: docs/plan_measured.md)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = "\n\n".join([HEAD, measured_table(), TECHNIQUES_HEAD, *technique_tables()])
    with written_aside(options.out) as draft:
        draft.write_text(text + "\n")
    print(f"wrote {options.out}")


HEAD = """# Plans, measured

`python scripts/plan_table.py` writes this page.

The peak of a training step above weights and images, by the profiler's memory events on a CPU (bytes live in
PyTorch's allocator), beside the plan for the same device. Half precision runs as it does on this processor. Several
devices are the first of so many ranks of PyTorch's fake process group: its collectives move nothing, all buffers are
real."""

TECHNIQUES_HEAD = """## What each technique saves

GB (10^9 bytes) at the peak on each of 8 GPUs, planned, bf16 by autocast; in brackets what that is of plain `ddp` with
"auto" attention, which is PyTorch's memory-efficient kernel here. Sequential attention is in the first two stages, as
in the paper, in pieces of 64 MiB. TFLOP: of a step on each GPU, and with checkpointing."""


def measured_table() -> str:
    """A row for each configuration."""
    rows = []
    plain = [
        (name, Work(make_config(name, window_size=window, image_size=settings.image_size)), settings)
        for name, window, settings in MEASURED
    ]
    for name, work, settings in plain + HEADS:
        planned = comparable(Planner(work)(settings))
        real = sharded(work.config, settings) if settings.devices > 1 else measured(work, settings).peak
        size, window = " x ".join(map(str, settings.image_size)), work.config.window_size[0][0]
        row = [name, f"{size}, w{window}", settings.batch, settings.precision, settings.describe()]
        rows.append([*row, f"{planned / 2**20:.1f}", f"{real / 2**20:.1f}", f"{planned / real - 1:+.1%}"])
        print(*rows[-1], file=sys.stderr)
    head = ["model", "image, window", "batch", "precision", "settings", "planned, MiB", "measured, MiB", "difference"]
    return markdown(head, rows, text_columns=5)


@contextmanager
def ranks(devices: int) -> Iterator[None]:
    """Be the first of so many processes, the others of which do not exist."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=devices, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def sharded(config: SwinConfig, settings: Settings) -> int:
    """Peak of a step on the first of several ranks, above its weights and images."""
    with ranks(settings.devices):
        model = SwinTransformer(config).train()
        configure(model, settings)
        if settings.strategy == "fsdp":
            mesh = init_device_mesh("cpu", (settings.devices,))
            for module in model.modules():
                if isinstance(module, SwinBlock):
                    fully_shard(module, mesh=mesh)
            fully_shard(model, mesh=mesh)
        x = images(settings.batch, config.in_channels, settings.image_size, CPU)
        return usage(_step(model, x, settings), CPU, calls=3).peak  # ddp rebuilds its buckets in the second


def _step(model: SwinTransformer, x: torch.Tensor, settings: Settings) -> Callable[[], object]:
    labels, dtype = torch.zeros(len(x), dtype=torch.long), DTYPES[settings.precision]
    made: list[tuple[nn.Module, torch.optim.Optimizer]] = []

    def step() -> None:
        if not made:  # inside, so that the buckets count
            made.append((model if settings.strategy == "fsdp" else _replicated(model), _optimizer(model, settings)))
        wrapped, optimizer = made[0]
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            loss = F.cross_entropy(wrapped(x).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _replicated(model: nn.Module) -> nn.Module:
    """DDP whose sums over ranks are taken as they are."""
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)

    def summed(state, bucket):  # DDP refuses annotations that are strings
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    wrapped.register_comm_hook(None, summed)
    return wrapped


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    if settings.strategy == "zero1":
        return ZeroRedundancyOptimizer(model.parameters(), AdamW, lr=1e-5, fused=True)
    return AdamW(model.parameters(), lr=1e-5, fused=True)


def technique_tables() -> Iterator[str]:
    """A table for each model."""
    for name in ("swinv2_tiny", "swinv2_base", "swinv2_large"):
        rows = []
        for size, (window, batch) in SIZES.items():
            config = make_config(name, window_size=window, image_size=size)
            planner = Planner(config)
            plain = Settings(image_size=(size, size), batch=batch, devices=8, strategy="ddp")
            plans = {way: planner(_with(plain, used)) for way, used in TOGETHER.items()}
            rows.append([f"{size}, w{window}, batch {batch}", *_savings(plans), *_operations(plans)])
            print(name, *rows[-1], file=sys.stderr)
        head = ["image, window", *TOGETHER, "TFLOP", "checkpointing"]
        yield f"### {name}\n\n{markdown(head, rows)}"


def _with(settings: Settings, techniques: tuple[str, ...]) -> Settings:
    for technique in techniques:
        settings = replace(settings, **TECHNIQUES[technique])
    return settings


def _savings(plans: dict[str, Plan]) -> list[str]:
    whole = plans["ddp"].peak.total
    return [
        gigabytes(each.peak.total) + ("" if way == "ddp" else f" ({each.peak.total / whole:.0%})")
        for way, each in plans.items()
    ]


def _operations(plans: dict[str, Plan]) -> list[str]:
    return [number(plans[way].step_flops / 1e12) for way in ("ddp", "checkpointing")]


if __name__ == "__main__":
    main()

"""Video Swin-T, V1 and V2, beside torchvision's swin3d_t: clips a second and peak memory, inference and training.

    python benchmarks/video.py [--device cuda] [--rows 'inference.*fp32'] [--rounds 11] [--seconds 120] [--no-compile]

As in compare.py: in each row all models run in one process in interleaved rounds, V1 and torchvision with the same
weights, and peak memory is measured eagerly in a fresh process for each. The ratio is that of V1 to torchvision, which
are the same model; V2 stands beside them at the same window, and at one of 8 x 16 x 16.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from common import DROP_PATH, Store, parse
from compare import attempt, fresh_memory, print_memory
from torch import nn

from swinv2.benchmark.contenders import WORK, Call, images
from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.report import machine_lines, markdown, mebibytes, number
from swinv2.benchmark.timing import interleave
from swinv2.checkpoint.writing import state_dict
from swinv2.config import Axes
from swinv2.model import SwinTransformer, create_model
from swinv2.storage import Stored

CLASSES = 400
OURS, PEER = "V1 8x7x7", "torchvision swin3d_t"


@dataclass(frozen=True)
class Case:
    """Clips of so many frames of square images, in batches."""

    frames: int
    image_size: int
    batch: int

    @property
    def size(self) -> Axes:
        """Of a clip."""
        return (self.frames, self.image_size, self.image_size)

    def build(self, name: str, window: Axes, drop_path_rate: float) -> SwinTransformer:
        """A model with fresh weights, the same each time."""
        torch.manual_seed(0)
        return create_model(
            name, window_size=window, image_size=self.size, num_classes=CLASSES, drop_path_rate=drop_path_rate
        )

    def __str__(self) -> str:
        return f"{self.frames}x{self.image_size}x{self.image_size} b{self.batch}"


def torchvision_of(model: SwinTransformer) -> nn.Module:
    """swin3d_t as torchvision has it, with our weights and drop path."""
    config = model.config
    module = importlib.import_module("torchvision.models.video.swin_transformer")
    peer: nn.Module = module.SwinTransformer3d(
        patch_size=list(config.patch_size),
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=list(config.window_size[0]),
        stochastic_depth_prob=config.drop_path_rate,
        num_classes=config.num_classes,
    )
    peer.load_state_dict(state_dict(Stored(config, dict(model.state_dict()), model.info), "torchvision"))
    return peer


MODELS: dict[str, Callable[[Case, float], nn.Module]] = {
    "V2 8x7x7": lambda case, drop: case.build("swinv2_video_tiny", (8, 7, 7), drop),
    "V2 8x16x16": lambda case, drop: case.build("swinv2_video_tiny", (8, 16, 16), drop),
    OURS: lambda case, drop: case.build("swin_video_tiny", (8, 7, 7), drop),
    PEER: lambda case, drop: torchvision_of(case.build("swin_video_tiny", (8, 7, 7), drop)),
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str
    case: Case
    dtype: str
    compiled: bool

    def __str__(self) -> str:
        autocast = " autocast" if self.work == "training" and self.dtype != "fp32" else ""
        return f"{self.work} {self.case} {self.dtype}{autocast} {'compiled' if self.compiled else 'eager'}"

    def call(self, contender: str, device: torch.device) -> Call:
        """What is timed of a model."""
        model = MODELS[contender](self.case, DROP_PATH if self.work == "training" else 0.0)
        clips = images(self.case.batch, 3, self.case.size, device)
        return WORK[self.work](model, clips, DTYPES[self.dtype], self.compiled)


ROWS = [
    Row(work, case, dtype, compiled)
    for work, cases in (("inference", (Case(16, 224, 1), Case(32, 224, 1))), ("training", (Case(16, 224, 2),)))
    for case in cases
    for dtype in ("fp32", "bf16")
    for compiled in (False, True)
]


def measure(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Clips a second of each model, its peak memory, and what failed."""
    calls: dict[str, Call] = {}
    errors: dict[str, str] = {}
    for name in MODELS:
        attempt(name, errors, lambda name=name: calls.update({name: row.call(name, options.device)}))
    timing = interleave(calls, options.device, rounds=options.rounds, seconds=options.seconds)
    calls.clear()
    torch._dynamo.reset()
    gc.collect()
    used: dict[str, dict[str, int | None]] = {}
    if not (row.compiled or options.no_memory):
        for name in timing.seconds:
            attempt(name, errors, lambda name=name: used.update({name: fresh_memory(row, name, options, __file__)}))
    rates = {name: row.case.batch / seconds for name, seconds in timing.seconds.items()}
    return {
        "work": row.work,
        **asdict(row.case),
        "dtype": row.dtype,
        "compiled": row.compiled,
        "clips_per_second": rates,
        "spread": timing.spread,
        "ratio": rates[OURS] / rates[PEER] if {OURS, PEER} <= rates.keys() else None,
        "memory": used,
        "rounds": timing.rounds,
        "disturbed": timing.disturbed,
        "errors": {**errors, **timing.errors},
    }


def report(store: Store) -> str:
    """The rows as Markdown."""
    rows = list(store.rows.values())
    sections = ["# Video Swin-T beside torchvision", machine_lines(store.machine)]
    sections += [
        "Clips a second, medians of interleaved rounds; the ratio is that of V1 to torchvision, the same model.",
        markdown(["", *MODELS, "ratio", "disturbed rounds"], map(_speed, rows)),
    ]
    if any(row["memory"] for row in rows):
        sections += [
            "Peak memory in MiB above the loaded model, of a first forward pass or a second training step in a fresh "
            "process, eager: in PyTorch's allocator, and in brackets what the system counts.",
            markdown(["", *MODELS, "V1 of torchvision"], (_memory(row) for row in rows if row["memory"])),
        ]
    failed = [f"- {row['name']}, {name}: {error}" for row in rows for name, error in row["errors"].items()]
    return "\n\n".join(sections + (["Failed:", "\n".join(failed)] if failed else []))


def _speed(row: dict[str, Any]) -> list[str]:
    rates = [number(row["clips_per_second"].get(name)) for name in MODELS]
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"
    return [row["name"], *rates, ratio, f"{row['disturbed']} of {row['rounds']}"]


def _memory(row: dict[str, Any]) -> list[str]:
    used = row["memory"]
    shown = [
        f"{mebibytes(used[name]['peak_bytes'])} ({mebibytes(used[name]['resident_bytes'])})" if name in used else "-"
        for name in MODELS
    ]
    both = {OURS, PEER} <= used.keys()
    return [row["name"], *shown, f"{used[OURS]['peak_bytes'] / used[PEER]['peak_bytes']:.2f}x" if both else "-"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parse(parser)
    if options.memory_of:
        (row,) = (row for row in ROWS if str(row) == options.memory_of)
        return print_memory(row, options.contender, options.device)
    store = Store("video", options)
    for row in ROWS:
        if re.search(options.rows, str(row)) and not (row.compiled and options.no_compile):
            print(f"{row} ...", file=sys.stderr, flush=True)
            store.add(str(row), measure(row, options))
            print(json.dumps(store.rows[str(row)]), flush=True)
    order = {str(row): place for place, row in enumerate(ROWS)}
    store.rows = dict(sorted(store.rows.items(), key=lambda item: order.get(item[0], len(order))))
    store.write(report(store))
    return None


if __name__ == "__main__":
    main()

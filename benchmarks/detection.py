"""Mask R-CNN on SwinV2-T: this library's backbone beside timm's under the same heads, images a second and peak memory.

    python benchmarks/detection.py [--size 800x1333] [--windows 16,32] [--rows inference] [--training-size 480x800]

Both detectors are `swinv2.model.detect.Detector` with the same weights, one on `SwinBackbone`, one on timm's
`create_model("swinv2_tiny_window16_256", features_only=True)` with the same norms on its maps. Both get the same batch:
the detector pads an image with zeros to a multiple of 32 (800x1333 to 800x1344), and each backbone pads its maps to its
windows by itself. timm shifts before it pads and lets tokens see the padding, so that detections are only the same
where no map needs any: they are compared on an image of multiples of 32 windows, before anything is timed.

Every proposal is called the first class, so that suppression has all of them to look at and 100 masks are made, as in a
busy image; the backbone alone has rows of its own. Rounds are interleaved, memory is of a fresh process; see README.md.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import timm
import torch
from common import Store, parse
from torch import Tensor, nn
from torchvision.ops import box_iou

from swinv2.benchmark.contenders import Call, memory, optimising
from swinv2.benchmark.report import machine_lines, markdown, mebibytes, number
from swinv2.benchmark.timing import interleave
from swinv2.checkpoint.writing import state_dict
from swinv2.cli.windows import size
from swinv2.model import SwinBackbone, SwinTransformer, create_model
from swinv2.model.detect import Detector, create_detector
from swinv2.model.detect.batch import pad_images
from swinv2.storage import Stored

NAMES = ("swinv2", "timm")
TRAINED = 8
"""Window of the weights that the published recipes start from, at which the bias networks are normalised."""
DROP_PATH = 0.2
CLASSES, OBJECTS = 80, 20
TOLERANCE = 1e-3
"""Largest difference of a score, and of an overlap from 1, at which two detections are the same."""


class TimmBackbone(nn.Module):
    """timm's model by the feature contract, with a norm on each map as `SwinBackbone` has it."""

    def __init__(self, own: SwinBackbone, encoder: SwinTransformer, image_size: tuple[int, int]) -> None:
        super().__init__()
        config = encoder.config
        self.channels, self.strides = own.channels, own.strides
        (window,) = {window for stage in config.window_size for window in stage}
        self.body = timm.create_model(
            "swinv2_tiny_window16_256",
            features_only=True,
            img_size=image_size,
            window_size=window,
            pretrained_window_sizes=(TRAINED,) * config.num_stages,
            drop_path_rate=config.drop_path_rate,
            depths=config.depths,
            embed_dim=config.embed_dim,
            num_heads=config.num_heads,
        )
        theirs = state_dict(Stored(config, dict(encoder.state_dict()), encoder.info), "timm")
        renamed = {re.sub(r"^layers\.(\d)", r"layers_\1", name): tensor for name, tensor in theirs.items()}
        wanted = self.body.state_dict()
        self.body.load_state_dict({name: renamed[name] for name in wanted})
        self.norms = copy.deepcopy(own.norms)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.body(x)
        return [norm(each).movedim(-1, 1) for norm, each in zip(self.norms.values(), maps, strict=True)]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str
    window: int
    size: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.work} w{self.window} {self.size[0]}x{self.size[1]}"

    def detectors(self, model: str = "swinv2_tiny") -> dict[str, Detector]:
        """Both, with the same random weights, none of which is 0."""
        torch.manual_seed(0)
        rate = DROP_PATH if self.work == "training" else 0.0
        encoder = create_model(model, window_size=self.window, trained_window_size=TRAINED, drop_path_rate=rate)
        for parameter in encoder.parameters():
            if parameter.ndim == 1:
                nn.init.uniform_(parameter, 0.2, 0.8)
        own = SwinBackbone(encoder)
        padded = tuple(-(-side // 32) * 32 for side in self.size)
        backbones = {"swinv2": own, "timm": TimmBackbone(own, encoder, padded)}
        found = {}
        for name, backbone in backbones.items():
            torch.manual_seed(1)
            found[name] = create_detector(backbone, "mask_rcnn", num_classes=CLASSES)
            with torch.no_grad():
                found[name].heads.box[0].cls_score.bias[1] = 5.0
        return found

    def call(self, detector: Detector, device: torch.device) -> Call:
        """What is timed."""
        images, targets = inputs(self.size, device)
        if self.work == "training":
            detector.to(device).train()
            return optimising(
                detector, lambda: torch.stack(list(detector(images, targets).values())).sum(), device, torch.float32
            )
        detector.to(device).eval()
        batch = pad_images(images).tensors

        def call() -> object:
            with torch.inference_mode():
                return detector.backbone(batch) if self.work == "backbone" else detector(images, paste=False)

        return call


def inputs(image_size: tuple[int, int], device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """One image of noise with objects of all sizes."""
    generator = torch.Generator().manual_seed(0)
    height, width = image_size
    corner, side = (torch.rand(OBJECTS, 2, generator=generator) for _ in range(2))
    far = torch.tensor([width, height])
    boxes = torch.cat([0.5 * corner * far, (0.5 * corner + 0.1 + 0.4 * side) * far], dim=1)
    target = {
        "boxes": boxes,
        "labels": torch.ones(OBJECTS, dtype=torch.long),
        "masks": torch.ones(OBJECTS, height, width, dtype=torch.uint8),
    }
    image = torch.randn(3, height, width, generator=generator)
    return [image.to(device)], [{name: value.to(device) for name, value in target.items()}]


def agreement(row: Row, options: argparse.Namespace) -> float:
    """Share of our detections that timm's backbone finds too, on an image whose maps are multiples of the windows.

    Raises:
        SystemExit: it is below 95%: what would be timed is not the same model.
    """
    step = 32 * row.window
    both = Row("inference", row.window, (step, step)).detectors(options.model)
    images, _ = inputs((step, step), torch.device("cpu"))
    with torch.inference_mode():
        ours, theirs = (both[name].eval()(images, paste=False)[0] for name in NAMES)
    overlaps = box_iou(ours["boxes"], theirs["boxes"])
    alike = (overlaps > 1 - TOLERANCE) & ((ours["scores"][:, None] - theirs["scores"]).abs() < TOLERANCE)
    share = float(alike.any(1).float().mean())
    if not share >= 0.95:
        raise SystemExit(f"{row}: only {share:.0%} of {len(ours['boxes'])} detections are the same with both backbones")
    return share


def measure(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Images a second with each backbone, and peak memory."""
    share = agreement(row, options)
    calls = {name: row.call(each, options.device) for name, each in row.detectors(options.model).items()}
    timing = interleave(calls, options.device, rounds=options.rounds, seconds=options.seconds)
    calls.clear()
    gc.collect()
    rates = {name: 1 / seconds for name, seconds in timing.seconds.items()}
    used = {} if options.no_memory else {name: fresh_memory(row, name, options) for name in timing.seconds}
    return {
        "images_per_second": rates,
        "ratio": rates["swinv2"] / rates["timm"] if len(rates) == len(NAMES) else None,
        "spread": timing.spread,
        "memory": used,
        "agreement": share,
        "rounds": timing.rounds,
        "disturbed": timing.disturbed,
        "errors": timing.errors,
    }


def fresh_memory(row: Row, contender: str, options: argparse.Namespace) -> dict[str, int | None]:
    """Peak memory with a backbone in a process of its own."""
    shape = "x".join(map(str, row.size))
    command = [sys.executable, __file__, "--memory-of", contender, "--rows", row.work, "--windows", str(row.window)]
    command += ["--size", shape, "--training-size", shape, "--model", options.model]
    command += ["--device", str(options.device), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{row}, {contender}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_memory(row: Row, contender: str, options: argparse.Namespace) -> None:
    """What `fresh_memory` reads."""
    call = row.call(row.detectors(options.model)[contender], options.device)
    gc.collect()
    used = memory("training" if row.work == "training" else "inference", call, options.device)
    print(json.dumps({"peak_bytes": used.peak, "resident_bytes": used.resident}))


def report(store: Store) -> str:
    """The rows as Markdown."""
    head = ["", *(f"{name}, images/s" for name in NAMES), "ratio", *(f"{name}, MiB" for name in NAMES), "ratio"]
    rows = []
    for row in store.rows.values():
        rates, peaks = row["images_per_second"], {name: each["peak_bytes"] for name, each in row["memory"].items()}
        speed = "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        share = f"{peaks['swinv2'] / peaks['timm']:.2f}x" if len(peaks) == len(NAMES) else "-"
        cells = [number(rates.get(name)) for name in NAMES], [mebibytes(peaks.get(name)) for name in NAMES]
        rows.append([row["name"], *cells[0], speed, *cells[1], share])
    failed = [
        f"- {row['name']}, {name}: {error}" for row in store.rows.values() for name, error in row["errors"].items()
    ]
    sections = [
        "# Mask R-CNN on SwinV2-T: this backbone and timm's",
        machine_lines(store.machine),
        "Batches of one image, fp32, eager; training is forward, backward and AdamW. Medians of interleaved rounds; "
        "memory is the peak above the loaded model in PyTorch's allocator, in a fresh process.",
        markdown(head, rows),
    ]
    return "\n\n".join(sections + (["Failed:", "\n".join(failed)] if failed else []))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--size", type=size, default=(800, 1333), metavar="HxW", help="of the image in inference")
    parser.add_argument("--training-size", type=size, default=(480, 800), metavar="HxW", help="and in training")
    parser.add_argument("--windows", default="16,32", metavar="W,W", help="one row each")
    parser.add_argument("--model", default="swinv2_tiny", help="another one of four stages, for a quick look")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parse(parser)
    sizes = {"inference": options.size, "backbone": options.size, "training": options.training_size}
    every = [Row(work, int(window), sizes[work]) for work in sizes for window in options.windows.split(",")]
    rows = [row for row in every if re.search(options.rows, str(row))]
    if options.memory_of:
        return print_memory(rows[0], options.memory_of, options)
    store = Store("detection", options)
    for row in rows:
        print(f"{row} ...", file=sys.stderr, flush=True)
        store.add(str(row), measure(row, options))
        print(json.dumps(store.rows[str(row)]), flush=True)
    store.write(report(store))
    return None


if __name__ == "__main__":
    main()

"""`swinv2 benchmark`: speed and memory of a model on this machine, beside other libraries if asked."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swinv2.cli.output import check_targets, emit, remark
from swinv2.cli.windows import size, window
from swinv2.config import VARIANTS, Axes, default_image_size, spread_image_size

if TYPE_CHECKING:
    from swinv2.benchmark.model import Plan
    from swinv2.model import SwinTransformer

DTYPES = ("fp32", "bf16", "fp16")
LIBRARIES = ("timm", "transformers", "torchvision")


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = _parser().parse_args(arguments)
    name = options.source if options.source in VARIANTS else Path(options.source).absolute().stem
    folder: Path = options.output or Path(f"benchmark-{name}")
    targets = [folder / f"benchmark.{ending}" for ending in ("json", "md", "png")]
    check_targets(targets, options.overwrite)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own remarks; read when torch is loaded
    import torch

    from swinv2.benchmark.chart import save
    from swinv2.benchmark.document import document, speed_chart, speed_table
    from swinv2.benchmark.model import benchmark_model
    from swinv2.tasks.inference import best_device

    if options.threads:
        torch.set_num_threads(options.threads)
    device = _device(options.device) if options.device else best_device()
    model, image_size = _model(options)
    result = benchmark_model(model, _plan(options, image_size), device, remark)
    emit(json.dumps({"model": options.source, **result}, indent=2), targets[0])
    emit(document(name, result), targets[1])
    save(speed_chart(name, result), targets[2])
    remark(f"wrote {targets[2]}")
    print(speed_table(result))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="swinv2 benchmark",
        description="Measure a model on this machine: images a second and peak memory in interleaved rounds, where the "
        "time goes, and how near it comes to what the machine can do. Wants an otherwise idle machine.",
    )
    add = parser.add_argument
    add(
        "source",
        nargs="?",
        default="swinv2_tiny",
        metavar="NAME|FILE",
        help="a model by name (random weights; default: swinv2_tiny), or weights: file, folder or hub id",
    )
    add("--window-size", type=window, metavar="W", help="16, 8x7x7 (per axis) or 16,16,16,8 (stages)")
    add("--trained-window-size", type=window, metavar="W", help="window the bias was trained at, if a file is silent")
    add("--image-size", type=size, metavar="S", help="input: 256, or 192x256 (default: what the model was made for)")
    add("--batch", type=_positive, default=8, metavar="N", help="images in a call (default: 8)")
    add(
        "--dtype",
        type=_choices(DTYPES),
        default=("fp32", "bf16"),
        metavar="TYPES",
        help="of fp32, bf16 and fp16, with commas (default: fp32,bf16)",
    )
    add(
        "--backend",
        type=_names,
        default=("auto",),
        metavar="NAMES",
        help="attention backends to compare, with commas (default: auto)",
    )
    add(
        "--against",
        type=_choices(LIBRARIES),
        default=(),
        metavar="LIBRARIES",
        help="of timm, transformers and torchvision, with commas: the same model there",
    )
    add("--compile", action="store_true", help="time everything under torch.compile too")
    add(
        "--train", action="store_true", help="time training steps: forward, backward, AdamW; half precision by autocast"
    )
    add("--device", metavar="D", help="cpu, cuda, cuda:1 (default: the accelerator, if there is one)")
    add("--threads", type=_positive, metavar="N", help="of the CPU (default: PyTorch's)")
    add("--rounds", type=_positive, default=11, metavar="N", help="at most so many (default: 11)")
    add("--seconds", type=_positive, default=60, metavar="S", help="budget of a dtype's rounds; three are run anyhow")
    add(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where to write benchmark.json, .md and .png (default: benchmark-NAME)",
    )
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise argparse.ArgumentTypeError("it names nothing")
    return names


def _choices(known: Sequence[str]) -> Any:
    def read(text: str) -> tuple[str, ...]:
        names = _names(text)
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return read


def _device(text: str) -> Any:
    import torch

    try:
        device = torch.device(text)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {text!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def _plan(options: argparse.Namespace, image_size: Axes) -> Plan:
    from swinv2.benchmark.model import Plan
    from swinv2.ops.dispatch import BACKENDS

    for name in options.backend:
        if name not in ("auto", *BACKENDS):
            raise ValueError(f"there is no attention backend {name!r}: use auto, {', '.join(BACKENDS)}.")
    return Plan(
        image_size=image_size,
        batch=options.batch,
        dtypes=options.dtype,
        backends=options.backend,
        compiled=options.compile,
        training=options.train,
        against=options.against,
        rounds=options.rounds,
        seconds=options.seconds,
    )


def _model(options: argparse.Namespace) -> tuple[SwinTransformer, Axes]:
    """The model, and the size of what it is fed."""
    from swinv2.checkpoint import load
    from swinv2.model import create_model

    if options.source in VARIANTS:
        asked = options.image_size or default_image_size(options.source)
        model = create_model(options.source, window_size=options.window_size, image_size=asked)
        return model, spread_image_size(model.config, asked)
    source = Path(options.source)
    model = load(
        source if source.exists() else options.source,
        window_size=options.window_size,
        trained_window_size=options.trained_window_size,
    )
    known = model.info.preprocessing
    asked = options.image_size or (known.size if known else None)
    if options.train and not model.config.num_classes:
        raise ValueError(f"{options.source} has no head to train: leave out --train.")
    if asked is None:
        raise ValueError(f"{options.source} does not tell the size of its input: give it with --image-size.")
    return model, spread_image_size(model.config, asked)

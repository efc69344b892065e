"""`swinv2 plan`: whether a training step fits, before there is a device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swinv2.cli.output import check_targets, emit, remark
from swinv2.cli.windows import size, window
from swinv2.config import default_image_size, make_config, spread_image_size

if TYPE_CHECKING:
    from swinv2.config import SwinConfig
    from swinv2.plan.planning import Plan
    from swinv2.plan.settings import Settings


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = _parser().parse_args(arguments)
    folder: Path | None = options.output
    targets = [] if folder is None else [folder / f"plan.{ending}" for ending in ("json", "md", "png")]
    check_targets(targets, options.overwrite)
    config, settings = _read(options)
    from swinv2.benchmark.chart import save
    from swinv2.plan.document import chart, cheapest_table, document, parts_table, summary, title
    from swinv2.plan.planning import Planner

    planner = Planner(config)
    made = planner(settings)
    lines = [summary(made), *([_compared(config, made)] if options.measure else [])]
    cheapest, tried = planner.cheapest(settings, remark)
    if targets:
        found = {card: None if each is None else each.to_dict() for card, each in cheapest.items()}
        result = {"model": options.name, "config": config.to_dict(), **made.to_dict(), "cheapest": found}
        emit(json.dumps(result, indent=2), targets[0])
        emit(document(options.name, made, cheapest), targets[1])
        save(chart(options.name, made, tried), targets[2])
        remark(f"wrote {targets[2]}")
    print("\n\n".join([title(options.name, made), parts_table(made), "\n".join(lines), cheapest_table(cheapest)]))


def _compared(config: SwinConfig, made: Plan) -> str:
    from swinv2.plan.document import gigabytes
    from swinv2.plan.measuring import comparable, measured

    used, planned = measured(config, made.settings), comparable(config, made)
    return (
        f"Measured on this machine: {gigabytes(used.peak)} GB above weights and images; planned: "
        f"{gigabytes(planned)} GB ({planned / used.peak - 1:+.1%})."
    )


def _read(options: argparse.Namespace) -> tuple[SwinConfig, Settings]:
    from swinv2.plan.settings import Settings

    asked = options.image_size
    config = make_config(options.name, window_size=options.window_size, image_size=asked)
    settings = Settings(
        image_size=spread_image_size(config, asked or default_image_size(options.name)),
        batch=options.batch,
        precision=options.precision,
        devices=options.devices,
        strategy=options.strategy or ("none" if options.devices == 1 else "ddp"),
        checkpointing=options.checkpointing,
        attention=options.attention,
        attention_stages=options.attention_stages,
        budget_mb=options.budget_mb,
        device=options.device,
    )
    return config, settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="swinv2 plan",
        description="Plan a training step: memory on each device by part, operations, the cards on which it fits, and "
        "the cheapest settings that fit. Nothing is computed, and no such device needs to be here.",
    )
    add = parser.add_argument
    add("name", nargs="?", default="swinv2_tiny", metavar="NAME", help="a model by name (default: swinv2_tiny)")
    add("--image-size", type=size, metavar="S", help="input: 256, or 192x256 (default: what the model is trained at)")
    add("--window-size", type=window, metavar="W", help="16, 8x7x7 (per axis) or 16,16,16,8 (stages)")
    add("--batch", type=int, default=1, metavar="N", help="images on each device (default: 1)")
    add("--precision", default="bf16", metavar="P", help="fp32, or bf16 and fp16 by autocast (default: bf16)")
    add("--devices", type=int, default=1, metavar="N", help="that share the work (default: 1)")
    add("--strategy", metavar="S", help="none, ddp, zero1 or fsdp (default: ddp on several devices)")
    add("--checkpointing", default="none", metavar="C", help="none, or block: compute activations again")
    add("--attention", default="auto", metavar="A", help="attention backend: auto, sdpa, sequential, triton")
    add(
        "--attention-stages",
        type=_stages,
        metavar="STAGES",
        help="stages that use it, counted from 0, as 0,1 (default: all)",
    )
    add("--budget-mb", type=float, metavar="MB", help="MiB that sequential attention may take at a time")
    add("--device", default="cuda", metavar="D", help="cuda or cpu, for which is planned (default: cuda)")
    add("--measure", action="store_true", help="run such a step on this machine too, and compare")
    add("--output", type=Path, metavar="FOLDER", help="write plan.json, plan.md and plan.png there too")
    add("--overwrite", action="store_true", help="replace files that exist")
    return parser


def _stages(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} names no stages: write 0,1")
    return tuple(dict.fromkeys(int(part) for part in parts))

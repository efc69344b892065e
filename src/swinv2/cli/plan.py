"""`swinv2 plan`: whether a training step fits, before there is a device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from swinv2.cli.output import check_targets, emit, remark
from swinv2.cli.plan_recipe import is_recipe, options_of
from swinv2.cli.windows import size, window
from swinv2.config import default_image_size, did_you_mean, make_config, spread_image_size

if TYPE_CHECKING:
    from swinv2.plan.planning import Plan
    from swinv2.plan.settings import Settings
    from swinv2.plan.work import Work

DEFAULTS = {
    "head": "classifier",
    "batch": 1,
    "precision": "bf16",
    "devices": 1,
    "checkpointing": "none",
    "attention": "auto",
}
"""What stands where neither an option nor a recipe says anything."""
CLASSES = {"classifier": 1000, "upernet": 150}
COCO = 80
"""Classes of a detector."""


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = _parser().parse_args(arguments)
    folder: Path | None = options.output
    targets = [] if folder is None else [folder / f"plan.{ending}" for ending in ("json", "md", "png")]
    check_targets(targets, options.overwrite)
    name, work, settings = _read(options)
    from swinv2.benchmark.chart import save
    from swinv2.plan.document import chart, cheapest_table, document, parts_table, summary, title
    from swinv2.plan.planning import Planner

    planner = Planner(work)
    made = planner(settings)
    lines = [summary(made), *([_compared(work, made)] if options.measure else [])]
    cheapest, tried = planner.cheapest(settings, remark)
    if targets:
        found = {card: None if each is None else each.to_dict() for card, each in cheapest.items()}
        result = {"model": name, "work": asdict(work), **made.to_dict(), "cheapest": found}
        emit(json.dumps(result, indent=2), targets[0])
        emit(document(name, made, cheapest), targets[1])
        save(chart(name, made, tried), targets[2])
        remark(f"wrote {targets[2]}")
    print("\n\n".join([title(name, made), parts_table(made), "\n".join(lines), cheapest_table(cheapest)]))


def _compared(work: Work, made: Plan) -> str:
    from swinv2.plan.document import gigabytes
    from swinv2.plan.measuring import comparable, measured

    used, planned = measured(work, made.settings), comparable(made)
    return (
        f"Measured on this machine: {gigabytes(used.peak)} GB above weights and inputs; planned: "
        f"{gigabytes(planned)} GB ({planned / used.peak - 1:+.1%})."
    )


def _read(options: argparse.Namespace) -> tuple[str, Work, Settings]:
    """What to call the model, what is trained, and how: as the options say, then the recipe, then the defaults."""
    from swinv2.plan.settings import Settings

    asked = {name: value for name, value in vars(options).items() if value is not None}
    if is_recipe(options.name):
        answers = options_of(Path(options.name), options.devices, options.batch)
        for line in answers["notes"]:
            remark(f"note: {line}")
        asked = answers | {name: value for name, value in asked.items() if name != "name"}
    given = argparse.Namespace(**(DEFAULTS | {key: value for key, value in asked.items() if value is not None}))
    work = _work(given)
    size = asked.get("image_size") or default_image_size(given.name)
    strategy = asked.get("strategy") or ("none" if given.devices == 1 else "ddp")
    taken = ("batch", "precision", "devices", "checkpointing", "attention", "device")
    settings = Settings(
        image_size=spread_image_size(work.config, size),
        strategy=strategy,
        attention_stages=asked.get("attention_stages"),
        budget_mb=asked.get("budget_mb"),
        **{name: getattr(given, name) for name in taken},
    )
    name = given.name if given.head == "classifier" else f"{given.head} on {given.name}"
    return name, work, settings


def _work(given: argparse.Namespace) -> Work:
    """The model and its head."""
    from swinv2.plan.work import Detection, Segmentation, Work

    asked = vars(given)
    classes = asked.get("classes", CLASSES.get(given.head, COCO))
    sizes = {name: asked.get(name) for name in ("window_size", "image_size")}
    config = make_config(given.name, **sizes, **{**asked.get("overrides", {}), "num_classes": classes})
    fields = asked.get("fields", {})
    if given.head == "classifier":
        return Work(config)
    if config.ndim != 2:
        raise ValueError(f"{given.name} is a model of videos: a {given.head} is for images.")
    if given.head == "upernet":
        from swinv2.model.upernet import UperNetConfig

        return Segmentation(config, UperNetConfig.from_dict(fields))
    from swinv2.model.detect import DETECTORS, detector_config

    if given.head not in DETECTORS:
        heads = ("classifier", "upernet", *DETECTORS)
        raise ValueError(f"head is {given.head!r}{did_you_mean(given.head, heads)}: use one of {', '.join(heads)}.")
    return Detection(config, detector_config(given.head, **fields), given.objects)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="swinv2 plan",
        description="Plan a training step: memory on each device by part, operations, the cards on which it fits, and "
        "the cheapest settings that fit. Nothing is computed, and no such device needs to be here. A recipe answers "
        "what no option does.",
    )
    add = parser.add_argument
    add(
        "name",
        nargs="?",
        default="swinv2_tiny",
        metavar="NAME",
        help="a model by name, or a recipe's YAML file (default: swinv2_tiny)",
    )
    add("--head", metavar="H", help="classifier, upernet, or a detector such as mask_rcnn (default: classifier)")
    add("--classes", type=int, metavar="N", help="that the head tells apart (default: 1000, upernet's 150, COCO's 80)")
    add("--objects", type=int, default=100, metavar="N", help="on each image, for a detector (default: 100)")
    add("--image-size", type=size, metavar="S", help="input: 256, or 192x256 (default: what the model is trained at)")
    add("--window-size", type=window, metavar="W", help="16, 8x7x7 (per axis) or 16,16,16,8 (stages)")
    add("--batch", type=int, metavar="N", help="images on each device (default: 1; a recipe's share)")
    add("--precision", metavar="P", help="fp32, or bf16 and fp16 by autocast (default: bf16)")
    add("--devices", type=int, metavar="N", help="that share the work (default: 1)")
    add("--strategy", metavar="S", help="none, ddp, zero1 or fsdp (default: ddp on several devices)")
    add("--checkpointing", metavar="C", help="none, or block: compute activations again (default: none)")
    add("--attention", metavar="A", help="attention backend: auto, sdpa, sequential, triton (default: auto)")
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

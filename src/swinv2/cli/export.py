"""`swinv2 export`: weights as a program that runs without this library."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swinv2.cli.output import check_targets, remark
from swinv2.cli.windows import size, window

if TYPE_CHECKING:
    from swinv2.export import Exported

FORMATS = ("pt2", "onnx")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = _parser().parse_args(arguments)
    source = Path(options.source)
    target: Path = options.output or _beside(source, options.format)
    check_targets([target], options.overwrite)
    import torch

    from swinv2.checkpoint import load
    from swinv2.export import export, prepare
    from swinv2.storage import ENCODERS
    from swinv2.tasks.models import kind_of

    prepare(target, options.format)
    kind = kind_of(source)
    if kind not in (None, *ENCODERS):
        raise ValueError(
            f"{source} holds a {kind}, whose head cannot be exported: export a classifier, or the maps of its backbone "
            f"in Python, swinv2.export.export(swinv2.tasks.models.load_model(FILE).backbone, 'maps.{options.format}', "
            f"'{options.format}')."
        )
    model = load(
        source if source.exists() else options.source,
        dtype=getattr(torch, DTYPES[options.dtype]),
        key=options.key,
        window_size=options.window_size,
        trained_window_size=options.trained_window_size,
        image_size=options.image_size,
    )
    remark(f"tracing {options.source}, writing and checking {target}: some tens of seconds")
    _summarise(export(model, target, options.format), options.format)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="swinv2 export",
        description="Write a model as a program for torch.export (pt2) or ONNX that takes any batch and size of input. "
        "It is run and compared with the model before it gets its name.",
    )
    parser.add_argument("source", metavar="FILE", help="weights file, folder, hub id, or name of published weights")
    parser.add_argument("--format", choices=FORMATS, required=True, help="pt2: torch.export.load; onnx: onnxruntime")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where to (default: as the weights file, ending in the format)"
    )
    parser.add_argument("--window-size", type=window, metavar="W", help="16, 8x7x7 (per axis) or 16,16,16,8 (stages)")
    parser.add_argument(
        "--trained-window-size", type=window, metavar="W", help="window the bias was trained at, if the file is silent"
    )
    parser.add_argument(
        "--image-size", type=size, metavar="S", help="resolution the weights were trained at, if the file is silent"
    )
    parser.add_argument("--key", help="which weights to take where a checkpoint holds several")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="type of the numbers; onnx takes fp32")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    return parser


def _beside(source: Path, format: str) -> Path:
    """The weights file with another ending; for what is no file, its last name in the current folder."""
    return source.with_suffix(f".{format}") if source.is_file() else Path(f"{source.absolute().name}.{format}")


def _summarise(exported: Exported, format: str) -> None:
    shapes = ", ".join("x".join(map(str, shape)) for shape in exported.shapes)
    remark(f"checked on inputs of {shapes}: differs from the model by {exported.difference:.1e} of its largest output")
    remark(f"wrote {exported.path} ({exported.path.stat().st_size / 1e6:.1f} MB) in the {format} format")

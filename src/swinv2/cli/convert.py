"""`swinv2 convert`: weights of any known format in any other, transferred on the way if asked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swinv2.cli.output import check_targets, remark
from swinv2.cli.windows import size, window

if TYPE_CHECKING:
    from swinv2.storage import Stored

DTYPES = {"keep": "keep", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
FORMATS = ("swinv2", "microsoft", "timm", "torchvision", "transformers", "mmpretrain")


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = _parser().parse_args(arguments)
    target: Path = options.target
    empty = target.is_dir() and not any(target.iterdir())
    if not (empty and options.to == "transformers"):  # an empty folder may be filled
        check_targets([target], options.overwrite)
    import torch

    from swinv2.checkpoint import writing
    from swinv2.checkpoint.loading import cast, read_stored

    dtype = DTYPES[options.dtype]
    stored = read_stored(
        _source(options.source), key=options.key, class_indices=_indices(options.class_indices), **_overrides(options)
    )
    writing.write(cast(stored, "keep" if dtype == "keep" else getattr(torch, dtype)), target, options.to)
    _summarise(stored, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="swinv2 convert",
        description="Convert weights between formats; what the options ask for is transferred on the way.",
    )
    parser.add_argument("source", help="file, folder with config.json, hub id, or name of published weights")
    parser.add_argument(
        "target", type=Path, help="file ending in .safetensors, .pth, .pt or .bin; for transformers also a folder"
    )
    parser.add_argument("--to", choices=FORMATS, default="swinv2", help="format to write (default: our own)")
    parser.add_argument("--window-size", type=window, metavar="W", help="16, 8x7x7 (per axis) or 16,16,16,8 (stages)")
    parser.add_argument(
        "--trained-window-size", type=window, metavar="W", help="window the bias was trained at, if the file is silent"
    )
    parser.add_argument(
        "--image-size", type=size, metavar="S", help="resolution the weights were trained at, if the file is silent"
    )
    parser.add_argument("--in-channels", type=int, metavar="N", help="input channels: kernels are summed or repeated")
    parser.add_argument("--num-classes", type=int, choices=[0], metavar="0", help="0 leaves the head out")
    parser.add_argument(
        "--patch-size", type=_patch, metavar="P", help="2x4x4 turns an image model into one of clips (give the window)"
    )
    parser.add_argument(
        "--class-indices", metavar="FILE", help="rows of the head to keep: a file of numbers, or imagenet22k_to_1k"
    )
    parser.add_argument("--key", help="which weights to take where a checkpoint holds several")
    parser.add_argument("--dtype", choices=DTYPES, default="keep", help="type of the numbers (default: as they are)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    return parser


def _patch(text: str) -> tuple[int, ...]:
    patch = size(text)
    return patch if isinstance(patch, tuple) else (patch, patch)


def _source(source: str) -> str | Path:
    path = Path(source)
    return path if path.exists() else source


def _indices(name: str | None) -> str | list[int] | None:
    if name is None or name == "imagenet22k_to_1k":
        return name
    if not Path(name).is_file():
        raise ValueError(f"there is no file {name!r} of class indices: give one, or imagenet22k_to_1k.")
    words = Path(name).read_text(encoding="utf-8", errors="replace").split()
    if not words or not all(word.isdecimal() for word in words):
        raise ValueError(f"{name!r} should hold whole numbers and nothing else: the rows of the head to keep.")
    return [int(word) for word in words]


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    names = ("window_size", "trained_window_size", "image_size", "in_channels", "num_classes", "patch_size")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _summarise(stored: Stored, options: argparse.Namespace) -> None:
    config, count = stored.config, sum(tensor.numel() for tensor in stored.tensors.values())
    version = "V1" if config.attention_score == "dot" else "V2"
    remark(
        f"read {options.source}: {stored.info.source} format, {version}, {count:,} parameters, width "
        f"{config.embed_dim}, depths {_numbers(config.depths)}, heads {_numbers(config.num_heads)}, "
        f"{config.num_classes or 'no'} classes"
    )
    trained = "" if config.position_bias == "table" else f", trained at {_windows(config.trained_window_size)}"
    remark(f"window {_windows(config.window_size)}{trained}")
    remark(f"wrote {options.target} in the {options.to} format")


def _numbers(values: Sequence[int], separator: str = ",") -> str:
    return separator.join(map(str, values))


def _windows(stages: Sequence[Sequence[int]]) -> str:
    return ", ".join(_numbers(stage, "x") for stage in (stages[:1] if len(set(stages)) == 1 else stages))

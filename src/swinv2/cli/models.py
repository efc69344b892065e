"""`swinv2 models`: every model that can be built by name."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from swinv2.cli.output import add_output_options, check_targets, emit, table


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    parser = argparse.ArgumentParser(prog="swinv2 models", description="List the models by name.")
    parser.add_argument("pattern", nargs="?", default="*", help="a shell pattern such as 'swinv2_*'")
    add_output_options(parser, ("table", "json"))
    options = parser.parse_args(arguments)
    check_targets([options.output], options.overwrite)
    models = _models(options.pattern)
    emit(json.dumps(models, indent=2) if options.format == "json" else _table(models), options.output)


def _models(pattern: str) -> list[dict[str, Any]]:
    import torch

    from swinv2.config import VARIANTS, default_image_size, list_models
    from swinv2.model import SwinTransformer

    names = list_models(pattern)
    if not names:
        raise ValueError(f"no model is called {pattern!r}: `swinv2 models` lists them all.")
    with torch.device("meta"):
        models = {name: SwinTransformer(VARIANTS[name]) for name in names}
    return [
        {
            "name": name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "image_size": default_image_size(name),
            **VARIANTS[name].to_dict(),
        }
        for name, model in models.items()
    ]


def _table(models: Sequence[dict[str, Any]]) -> str:
    head = ("name", "parameters", "width", "depths", "heads", "patch", "window", "image")
    rows = [
        (
            model["name"],
            f"{model['parameters']:,}",
            model["embed_dim"],
            _numbers(model["depths"]),
            _numbers(model["num_heads"]),
            _numbers(model["patch_size"], "x"),
            _numbers(model["window_size"][0], "x"),
            _numbers(model["image_size"], "x"),
        )
        for model in models
    ]
    return table([head, *rows])


def _numbers(values: Sequence[int], separator: str = ",") -> str:
    return separator.join(map(str, values))

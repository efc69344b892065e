"""`swinv2 models`: every model that can be built by name, and every published set of weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from swinv2.cli.output import add_output_options, check_targets, emit, remark, table
from swinv2.config import VARIANTS, default_image_size, list_models

Rows = list[dict[str, Any]]


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    parser = argparse.ArgumentParser(prog="swinv2 models", description="List models, or published weights, by name.")
    parser.add_argument("pattern", nargs="?", default="*", help="a shell pattern such as 'swinv2_*'")
    parser.add_argument(
        "--pretrained", action="store_true", help="list published weights: create_model(NAME, pretrained=True)"
    )
    add_output_options(parser, ("table", "json", "markdown"))
    options = parser.parse_args(arguments)
    check_targets([options.output], options.overwrite)
    rows = _published(options.pattern) if options.pretrained else _architectures(options.pattern)
    columns = _PUBLISHED if options.pretrained else _ARCHITECTURES
    emit(
        json.dumps(rows, indent=2) if options.format == "json" else _FORMS[options.format](rows, columns),
        options.output,
    )
    if not options.pretrained and options.format == "table":
        remark("`swinv2 models --pretrained` lists published weights.")


def _architectures(pattern: str) -> Rows:
    from swinv2.checkpoint.record import num_parameters

    names = list_models(pattern)
    if not names:
        raise ValueError(f"no model is called {pattern!r}: `swinv2 models` lists them all.")
    return [
        {
            "name": name,
            "parameters": num_parameters(VARIANTS[name]),
            "image_size": default_image_size(name),
            **VARIANTS[name].to_dict(),
        }
        for name in names
    ]


def _published(pattern: str) -> Rows:
    from swinv2.checkpoint.published import get, list_pretrained
    from swinv2.checkpoint.record import num_parameters

    names = list_pretrained(pattern)
    if not names:
        raise ValueError(f"no published weights are called {pattern!r}: `swinv2 models --pretrained` lists them all.")
    return [
        {
            "name": record.name,
            "variant": record.variant,
            "parameters": num_parameters(config := record.config()),
            "image_size": record.image_size,
            "window_size": config.window_size,
            "trained_window_size": config.trained_window_size,
            "labels": record.labels,
            "num_classes": record.num_classes,
            "top1": record.top1,
            "reported_by": record.reported_by,
            "licence": record.licence,
            "preprocessing": record.preprocessing.to_dict(),
            "sources": [{"kind": each.kind, "url": each.url, "file": each.file} for each in record.sources],
            "aliases": record.aliases,
        }
        for record in map(get, names)
    ]


def _times(values: Sequence[int]) -> str:
    return "x".join(map(str, values))


def _stages(windows: Sequence[Sequence[int]]) -> str:
    """Windows of all stages, or the one that they share."""
    written = [*map(_times, windows)]
    return written[0] if len(set(written)) == 1 else ",".join(written)


def _commas(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


Columns = dict[str, Callable[[dict[str, Any]], str]]
_ARCHITECTURES: Columns = {
    "name": lambda row: row["name"],
    "parameters": lambda row: f"{row['parameters']:,}",
    "width": lambda row: str(row["embed_dim"]),
    "depths": lambda row: _commas(row["depths"]),
    "heads": lambda row: _commas(row["num_heads"]),
    "patch": lambda row: _times(row["patch_size"]),
    "window": lambda row: _times(row["window_size"][0]),
    "image": lambda row: _times(row["image_size"]),
}
_PUBLISHED: Columns = {
    "name": lambda row: row["name"],
    "parameters": lambda row: f"{row['parameters']:,}",
    "image": lambda row: _times(row["image_size"]),
    "window": lambda row: _stages(row["window_size"]),
    "trained window": lambda row: _stages(row["trained_window_size"]),
    "labels": lambda row: row["labels"],
    "top-1": lambda row: "" if row["top1"] is None else f"{row['top1']:.2f} ({row['reported_by']})",
    "licence": lambda row: row["licence"],
    "source": lambda row: ", ".join(source["kind"] for source in row["sources"]),
}


def _aligned(rows: Rows, columns: Columns) -> str:
    return table([[*columns], *([cell(row) for cell in columns.values()] for row in rows)])


def _markdown(rows: Rows, columns: Columns) -> str:
    lines = [[*columns], ["---"] * len(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_FORMS: dict[str, Callable[[Rows, Columns], str]] = {"table": _aligned, "markdown": _markdown}

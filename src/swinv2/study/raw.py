"""What a study measured, without any summary: every figure of every cell, every round of training, and on what."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from swinv2.benchmark.machine import describe
from swinv2.study.base import Done

ROUNDS = "rows"
"""The figure that has a table of its own."""


def this_machine() -> str:
    """Processor or GPU, threads and versions, for people."""
    found = describe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    on = f"{found['processor']}, {threads}" if found["device"] == "cpu" else found["device"]
    return f"{on}, torch {found['versions']['torch']}, swinv2 {found['versions']['swinv2']}"


def provenance(done: Sequence[Done]) -> str:
    """On what machines and images everything was measured, in one line; empty where nothing was."""
    told = list(dict.fromkeys(str(each.figures["machine"]) for each in done if "machine" in each.figures))
    counted = [each.figures for each in done if "training_images" in each.figures][:1]
    told += [f"{each['training_images']} training and {each['images']} validation images" for each in counted]
    return f"Measured on {'; '.join(told)}." if told else ""


def cells_csv(done: Sequence[Done]) -> str:
    """A row for each cell: its factors, and its figures by dotted names; those that are lists as JSON."""
    return _csv(
        [
            {
                **each.cell.factors,
                **dict(_flat({name: value for name, value in each.figures.items() if name != ROUNDS})),
            }
            for each in done
        ]
    )


def rounds_csv(done: Sequence[Done]) -> str:
    """A row for each round of each training, from one validation to the next; empty where nothing was trained."""
    return _csv([{**each.cell.factors, **row} for each in done for row in each.figures.get(ROUNDS, ())])


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else value


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """With the columns of all rows; empty where there are none."""
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if rows:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

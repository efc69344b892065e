"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swinv2.benchmark.machine import Ceilings


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], text_columns: int = 1) -> str:
    """A table whose first columns are text and whose others are numbers."""
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    body = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
    return "\n".join([body[0], f"|{'|'.join(rule)}|", *body[1:]])


def number(value: float | None, digits: int = 3) -> str:
    """With so many significant digits and no exponent; a dash for None."""
    if not value:
        return "-" if value is None else "0"
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:#.{digits}g}".rstrip(".")


def mebibytes(value: int | None) -> str:
    """Bytes in MiB."""
    return number(None if value is None else value / 2**20)


def machine_lines(machine: Mapping[str, Any]) -> str:
    """One paragraph that says on what was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    allocator = ", ".join(f"{name}={value}" for name, value in machine["allocator"].items()) or "as it comes"
    device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
    return (
        f"{device}{machine['processor']}, {machine['threads']} threads, {machine['system']}; allocator: {allocator}; "
        f"Python {machine['python']}, {versions}."
    )


def ceiling_lines(ceilings: Ceilings) -> str:
    """One sentence of the machine's ceilings."""
    products = ", ".join(f"{name} {number(value / 1e9)}" for name, value in ceilings.flops.items())
    return (
        f"Measured ceilings: products of 2048 x 2048 matrices at {products} GFLOP/s; copying "
        f"{number(ceilings.bandwidth / 1e9)} GB/s, read and written; {number(ceilings.exponentials / 1e9)} G "
        "exponentials/s."
    )

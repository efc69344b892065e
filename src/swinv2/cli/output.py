"""What the verbs print and write: results to standard output or a file, remarks to standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from swinv2.files import written_aside


def add_output_options(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """Options that all verbs with results share."""
    parser.add_argument("--format", choices=formats, default=formats[0], help="form of the result")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result there, not to the terminal")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def refuse_existing(paths: Iterable[Path | None], overwrite: bool) -> None:
    """ValueError if one of the files to write exists and may not be replaced."""
    for path in paths:
        if path is not None and path.exists() and not overwrite:
            raise ValueError(f"{path} exists: choose another name, or add --overwrite.")


def emit(text: str, output: Path | None) -> None:
    """Print the result, or write it and say where."""
    if output is None:
        print(text.rstrip("\n"))
        return
    with written_aside(output) as draft:
        draft.write_text(text.rstrip("\n") + "\n")
    remark(f"wrote {output}")


def remark(text: str) -> None:
    """Tell people something that is not the result."""
    print(text, file=sys.stderr)


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows in aligned columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)

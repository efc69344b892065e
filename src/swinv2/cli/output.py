"""What the verbs print and write: results to standard output or a file, remarks to standard error."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from swinv2.files import written_aside


def add_output_options(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """Options that all verbs with results share."""
    parser.add_argument("--format", choices=formats, default=formats[0], help="form of the result")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result there, not to the terminal")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def check_targets(paths: Iterable[Path | None], overwrite: bool) -> None:
    """ValueError if one of the files cannot be written, or exists and may not be replaced: before the work is done."""
    for path in paths:
        if path is None:
            continue
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is not a file that can be replaced: choose another name.")
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists: choose another name, or add --overwrite.")
        folder = next(each for each in path.absolute().parents if each.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise ValueError(f"{path} cannot be written, as {folder} is no folder to write into: choose another name.")


def emit(text: str, output: Path | None) -> None:
    """Print the result, or write it and say where."""
    if output is None:
        print(text.rstrip("\n"), flush=True)
        return
    with written_aside(output) as draft:
        draft.write_text(text.rstrip("\n") + "\n", encoding="utf-8", errors="backslashreplace")
    remark(f"wrote {output}")


def remark(text: str) -> None:
    """Tell people something that is not the result."""
    print(text, file=sys.stderr)


def known(value: Any) -> Any:
    """A figure as JSON has it: null for NaN, which stands for what there is none of."""
    return None if isinstance(value, float) and math.isnan(value) else value


def percent(share: float) -> str:
    """A share from 0 to 1 in a table; "-" for NaN."""
    return "-" if math.isnan(share) else f"{share:.2%}"


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows in aligned columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)

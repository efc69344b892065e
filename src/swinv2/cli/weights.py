"""What the verbs that use weights have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def add_weights_options(parser: argparse.ArgumentParser) -> None:
    """Options by which weights are chosen, and made to run at another resolution or window."""
    add = parser.add_argument
    add("--weights", type=str, required=True, metavar="FILE|ID", help="file, folder or hub id, in any known format")
    add("--key", help="which weights to take where the file holds several")
    add("--classes", metavar="FILE", help="class names, one a line, instead of those in the weights")
    add("--image-size", metavar="S", help="another size of the input: 256, or 192x256 (height, width)")
    add("--window-size", metavar="W", help="another window: 16, or 16,16,16,8 (one a stage)")
    add("--trained-window-size", metavar="W", help="window of the first training, if the file is silent")


def given(options: argparse.Namespace, name: str, read: Callable[[str], T]) -> T | None:
    """An option as `read` reads it; jsonargparse would apply a type of ours twice, and show it in its help."""
    text = getattr(options, name)
    try:
        return None if text is None else read(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--{name.replace('_', '-')}: {error}.") from None


def with_progress(batches: Iterable[T], total: int) -> Iterator[T]:
    """The batches, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(batches, total=total, console=console, disable=not sys.stderr.isatty(), transient=True))

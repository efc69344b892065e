"""Windows and sizes as people write them on a command line."""

from __future__ import annotations

import argparse
from typing import Any

from swinv2.config import WindowSpec


def window(text: str) -> WindowSpec:
    """``16``; ``8x7x7``, one number per axis; ``16,16,16,8``, one entry per stage (each may have an x)."""
    if "," not in text:
        entry = _entry(text)
        return entry if isinstance(entry, int) else (entry,)
    nested: list[Any] = [_entry(part) for part in text.split(",")]
    axes = {len(entry) for entry in nested if isinstance(entry, tuple)} or {2}
    return tuple(entry if isinstance(entry, tuple) else (entry,) * max(axes) for entry in nested)


def size(text: str) -> int | tuple[int, ...]:
    """``256``, or one number per axis: ``224x320``, ``16x224x224`` with frames first."""
    return _entry(text)


def _entry(text: str) -> int | tuple[int, ...]:
    parts = text.split("x")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 16, 8x7x7 (per axis) or 16,16,16,8 (per stage)")
    numbers = tuple(int(part) for part in parts)
    return numbers[0] if len(numbers) == 1 else numbers

"""Class names: from a file, and those of one place found in another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize


def read_classes(path: Path) -> tuple[str, ...]:
    """Names from a text file, one a line, in the order of the labels; empty lines do not count.

    Raises:
        ValueError: There is no such file, or it is no text.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path} of class names: check the path.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: write the name of one class a line.") from error
    return tuple(filter(None, map(str.strip, lines)))


def find_classes(wanted: Sequence[str], known: Sequence[str], numbered: bool = False) -> list[int | None]:
    """Place of each wanted class among the known ones, however its accents are encoded; None for an unknown class.

    With `numbered`, classes that are called 0, 1, 2 and so on, as ImageNet-V2's, are places among names that are no
    numbers.
    """
    if numbered and all(name.isdecimal() for name in wanted) and not any(name.isdecimal() for name in known):
        return [int(name) if int(name) < len(known) else None for name in wanted]
    places = {normalize("NFC", name): place for place, name in enumerate(known)}
    return [places.get(normalize("NFC", name)) for name in wanted]

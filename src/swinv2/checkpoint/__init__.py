"""Weights in files: our own format, everyone else's, and the transfer between configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swinv2.checkpoint.loading import convert, load, save

__all__ = ["convert", "load", "save"]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first used, so that the records can be listed without."""
    if name not in __all__:
        raise AttributeError(f"module 'swinv2.checkpoint' has no attribute {name!r}")
    from swinv2.checkpoint import loading

    return getattr(loading, name)

"""Swin Transformer V2: the model family, its training, and its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swinv2.config import VARIANTS, SwinConfig, list_models

if TYPE_CHECKING:
    from swinv2.model import SwinTransformer, create_model
    from swinv2.ops import window_attention

__version__ = "0.1.0"
__all__ = ["VARIANTS", "SwinConfig", "SwinTransformer", "create_model", "list_models", "window_attention"]

_LAZY = {"SwinTransformer": "swinv2.model", "create_model": "swinv2.model", "window_attention": "swinv2.ops"}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first used, so that the command line answers at once."""
    if name not in _LAZY:
        raise AttributeError(f"module 'swinv2' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

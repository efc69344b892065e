"""Swin Transformer V2: the model family, its training, and its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swinv2.config import VARIANTS, SwinConfig, list_models

if TYPE_CHECKING:
    from swinv2.checkpoint import convert, load, save
    from swinv2.checkpoint.creation import create_model
    from swinv2.checkpoint.published import list_pretrained
    from swinv2.model import SwinBackbone, SwinTransformer
    from swinv2.ops import window_attention

__version__ = "0.1.0"
__all__ = [
    "VARIANTS",
    "SwinBackbone",
    "SwinConfig",
    "SwinTransformer",
    "convert",
    "create_model",
    "list_models",
    "list_pretrained",
    "load",
    "save",
    "window_attention",
]

_LAZY = {
    "SwinBackbone": "swinv2.model",
    "SwinTransformer": "swinv2.model",
    "convert": "swinv2.checkpoint",
    "create_model": "swinv2.checkpoint.creation",
    "list_pretrained": "swinv2.checkpoint.published",
    "load": "swinv2.checkpoint",
    "save": "swinv2.checkpoint",
    "window_attention": "swinv2.ops",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first used, so that the command line answers at once."""
    if name not in _LAZY:
        raise AttributeError(f"module 'swinv2' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

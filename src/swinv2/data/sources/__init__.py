"""Datasets of labelled images, opened by `open_split`: one module a format."""

from swinv2.data.sources.base import ImageSource
from swinv2.data.sources.opening import open_split

__all__ = ["ImageSource", "open_split"]

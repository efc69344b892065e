"""Weights in files: our own format, and the mapping from the peers'."""

from swinv2.checkpoint.native import Loaded, load, save

__all__ = ["Loaded", "load", "save"]

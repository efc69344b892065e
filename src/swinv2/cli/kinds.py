"""Which module of the command line measures and uses weights: told by the kind of model that their file holds."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from types import ModuleType

MODULES = {
    "classifier": "swinv2.cli.classify",
    "detector": "swinv2.cli.detect",
    "segmenter": "swinv2.cli.segment",
    "simmim": "swinv2.cli.classify",  # which says that a head is missing
}
"""The module of each kind of model; it has a function for each verb, which takes the verb's arguments."""


def module_for(arguments: Sequence[str]) -> ModuleType:
    """The module for the weights among the arguments of a verb; that of classifiers where the file tells no kind.

    Raises:
        ValueError: The file holds a model that the command line does not know.
    """
    weights = _weights(arguments)
    kind = _kind(weights) if weights else None
    if kind is not None and kind not in MODULES:
        raise ValueError(f"{weights} holds a {kind}, which this swinv2 does not know: update swinv2.")
    return importlib.import_module(MODULES[kind or "classifier"])


def _weights(arguments: Sequence[str]) -> str | None:
    """What follows --weights; None where the verb's own parser will complain."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--weights")
    try:
        weights: str | None = parser.parse_known_args(list(arguments))[0].weights
    except argparse.ArgumentError:
        return None
    return weights


def _kind(weights: str) -> str | None:
    from swinv2.tasks.models import kind_of

    return kind_of(weights)

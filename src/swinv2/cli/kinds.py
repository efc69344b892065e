"""Which module of the command line measures and uses weights: told by the model that their file holds."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

MODULES = {
    "classifier": "swinv2.cli.classify",
    "detector": "swinv2.cli.detect",
    "segmenter": "swinv2.cli.segment",
    "simmim": "swinv2.cli.classify",  # which says that a head is missing
}
"""The module of each kind of model; it has a function for each verb, which takes the verb's arguments."""

OF_IMAGES, OF_VIDEOS = MODULES["classifier"], "swinv2.cli.video"
"""Modules of classifiers, by whether their patch has a third axis; to tell, their weights are read, and handed on."""


def run(verb: str, arguments: Sequence[str]) -> None:
    """Do a verb by the module for the weights among its arguments; that of classifiers where the file tells no kind.

    Raises:
        ValueError: The file holds a model that the command line does not know.
    """
    weights, key = _weights(arguments)
    if weights is None:
        return _run(OF_IMAGES, verb, arguments)
    from swinv2.checkpoint.reading import read
    from swinv2.tasks.models import axes_of, kind_of

    kind = kind_of(weights) or "classifier"
    if kind not in MODULES:
        raise ValueError(f"{weights} holds a {kind}, which this swinv2 does not know: update swinv2.")
    if MODULES[kind] != OF_IMAGES:
        return _run(MODULES[kind], verb, arguments)
    raw = read(weights, key=key)
    return _run(OF_VIDEOS if axes_of(raw) == 3 else OF_IMAGES, verb, arguments, raw)


def _run(module: str, verb: str, *arguments: object) -> None:
    getattr(importlib.import_module(module), verb)(*arguments)


def _weights(arguments: Sequence[str]) -> tuple[str | None, str | None]:
    """What follows --weights and --key; None where the verb's own parser will complain."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--weights")
    parser.add_argument("--key")
    try:
        options = parser.parse_known_args(list(arguments))[0]
    except argparse.ArgumentError:
        return None, None
    return options.weights, options.key

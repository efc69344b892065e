"""Which module of the command line measures and uses weights: told by the model that their file holds."""

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

OF_IMAGES, OF_VIDEOS = MODULES["classifier"], "swinv2.cli.video"
"""Modules of classifiers, by whether their patch has a third axis."""


def module_for(arguments: Sequence[str]) -> ModuleType:
    """The module for the weights among the arguments of a verb; that of classifiers where the file tells no kind.

    Raises:
        ValueError: The file holds a model that the command line does not know.
    """
    weights, key = _weights(arguments)
    return importlib.import_module(_module(weights, key) if weights else OF_IMAGES)


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


def _module(weights: str, key: str | None) -> str:
    from swinv2.tasks.models import axes_of, kind_of

    kind = kind_of(weights) or "classifier"
    if kind not in MODULES:
        raise ValueError(f"{weights} holds a {kind}, which this swinv2 does not know: update swinv2.")
    of_clips = MODULES[kind] == OF_IMAGES and axes_of(weights, key) == 3
    return OF_VIDEOS if of_clips else MODULES[kind]

"""`swinv2 predict`: what weights see, as their kind of model shows it."""

from __future__ import annotations

from collections.abc import Sequence

from swinv2.cli.kinds import run


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    run("predict", arguments)

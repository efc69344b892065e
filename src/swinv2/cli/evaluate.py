"""`swinv2 evaluate`: weights against what is known of the data, as their kind of model is measured."""

from __future__ import annotations

from collections.abc import Sequence

from swinv2.cli.kinds import run


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    run("evaluate", arguments)

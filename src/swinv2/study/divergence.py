"""Whether a training diverged, by one rule for all studies."""

from __future__ import annotations

import math

from swinv2.study.base import Figures

RISE = 1.1
GUESS = 0.98

RULE = (
    "a training counts as diverged where its loss or weights are not finite, or where the training loss of its last "
    f"round is more than {RISE - 1:.0%} above that of its best round, or {GUESS:.0%} of that of guessing or more"
)


def diverged(figures: Figures, guessing: float | None = None) -> bool:
    """`RULE`, for the figures of a training.

    Args:
        figures: of the cell, whose rows are rounds of training.
        guessing: loss of who knows nothing; None where it is not told.
    """
    losses = [float(row["train_loss"]) for row in figures["rows"] if "train_loss" in row]
    if figures.get("diverged") or not losses:
        return True
    return losses[-1] > RISE * min(losses) or (guessing is not None and losses[-1] >= GUESS * guessing)


def guessing(figures: Figures) -> float:
    """Cross entropy of equal probabilities, with label smoothing and without."""
    return math.log(int(figures["classes"]))


def share(found: list[bool]) -> str:
    """How many of the seeds, for people."""
    return f"{sum(found)} of {len(found)}"

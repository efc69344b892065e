"""Whether a training failed, and how, by one rule for all studies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from swinv2.study.base import Figures

Failure = Literal["not finite", "rose", "at guessing"]

RISE = 1.1
GUESS = 0.98

RULE = (
    "a training counts as failed where its loss or weights are not finite, or where the training loss of its last "
    f"round is more than {RISE - 1:.0%} above that of its best round (it rose), or {GUESS:.0%} of that of guessing or "
    "more"
)


def failure(figures: Figures, guessing: float | None = None) -> Failure | None:
    """How a training failed by `RULE`; None where it did not.

    Args:
        figures: of the cell, whose rows are rounds of training.
        guessing: loss of who knows nothing; None where it is not told.
    """
    losses = [float(row["train_loss"]) for row in figures["rows"] if "train_loss" in row]
    if figures.get("diverged") or not losses:
        return "not finite"
    if losses[-1] > RISE * min(losses):
        return "rose"
    return "at guessing" if guessing is not None and losses[-1] >= GUESS * guessing else None


def guessing(figures: Figures) -> float:
    """Cross entropy of equal probabilities, with label smoothing and without."""
    return math.log(int(figures["classes"]))


def share(found: Sequence[Failure | None]) -> str:
    """How many of the seeds failed, for people, and how where any did."""
    kinds = Counter(each for each in found if each is not None)
    told = f"{kinds.total()} of {len(found)}"
    return f"{told} ({', '.join(kinds)})" if kinds else told

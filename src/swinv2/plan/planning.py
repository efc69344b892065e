"""Memory and operations of a training step, on which cards it fits, and the cheapest settings that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from swinv2.config import SwinConfig
from swinv2.plan.settings import Settings
from swinv2.plan.strategy import Peak, States, communicated, peak, states
from swinv2.plan.trace import Trace, trace
from swinv2.plan.work import Work

CARDS = {f"{size} GB": size * 10**9 for size in (24, 40, 80, 141)}
"""Bytes of a card as sold, in powers of ten. Cards have up to 7% more, of which the CUDA context, the libraries' own
workspaces and the allocator's slack take some."""

SEARCHED_BUDGET_MB = 256.0
"""What sequential attention may take at a time where settings are searched and none is asked for: its own choice for a
GPU is several times that."""


@dataclass(frozen=True)
class Plan:
    """What a training step needs on the device that needs most.

    Args:
        settings: of the step.
        states: weights, gradients and moments, whole, as they stand at the end of a step.
        peak: all parts at the highest instant.
        forward_flops: operations of a forward pass on a device.
        step_flops: of a step, with what is computed again.
        sent_bytes: that a device sends in a step.
        input_bytes: of images and targets, among the activations.
        seconds: that planning took.
    """

    settings: Settings
    states: States
    peak: Peak
    forward_flops: int
    step_flops: int
    sent_bytes: int
    input_bytes: int
    seconds: float

    def fits(self, capacity: int) -> bool:
        """Whether a device of so many bytes is enough."""
        return self.peak.total <= capacity

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = {**asdict(self), "total": self.peak.total}
        return {**plain, "fits": {card: self.fits(capacity) for card, capacity in CARDS.items()}}


def plan(work: Work | SwinConfig, settings: Settings) -> Plan:
    """Plan a training step: forward pass, loss, backward pass and AdamW in fp32.

    Args:
        work: what is trained; an architecture alone is a classifier.
        settings: how.

    Raises:
        ValueError: settings that cannot be with this model or device.
    """
    return Planner(work)(settings)


class Planner:
    """Plans of one model; what two settings share is traced once."""

    def __init__(self, work: Work | SwinConfig) -> None:
        self._work = work if isinstance(work, Work) else Work(work)
        self._traces: dict[Settings, Trace] = {}

    def __call__(self, settings: Settings) -> Plan:
        """Plan a step."""
        alone = replace(settings, devices=1, strategy="none")
        if alone not in self._traces:
            self._traces[alone] = trace(self._work, alone)
        done = self._traces[alone]
        return Plan(
            settings=settings,
            states=states(done, settings),
            peak=peak(done, settings),
            forward_flops=done.forward_flops,
            step_flops=done.step_flops,
            sent_bytes=communicated(done, settings),
            input_bytes=done.inputs,
            seconds=done.seconds,
        )

    def cheapest(
        self, settings: Settings, remark: Callable[[str], None] = lambda text: None
    ) -> tuple[dict[str, Plan | None], list[Plan]]:
        """For each card the first of `candidates` that fits, None where none does; and all that were planned."""
        found: dict[str, Plan | None] = dict.fromkeys(CARDS)
        tried = []
        for candidate in candidates(settings, self._work.config.num_stages):
            remark(f"planning {candidate.describe()}")
            made = self(candidate)
            tried.append(made)
            for card, capacity in CARDS.items():
                if found[card] is None and made.fits(capacity):
                    found[card] = made
            if found[min(CARDS, key=lambda card: CARDS[card])]:
                break
        return found, tried


def candidates(settings: Settings, stages: int) -> Iterator[Settings]:
    """Settings that save memory, in the order of what they cost.

    Those without recomputation first, of these those that communicate least, and of these those with sequential
    attention in fewest stages: the attention that was asked for, then the paper's first two, then all. A wide model
    is sharded (fsdp) last, as that gathers weights while others wait.
    """
    strategies = ("none",) if settings.devices == 1 else ("ddp", "zero1", "fsdp")
    pieces = {"attention": "sequential", "budget_mb": settings.budget_mb or SEARCHED_BUDGET_MB}
    attentions: list[dict[str, Any]] = [
        {},
        *([{**pieces, "attention_stages": (0, 1)}] if stages > 2 else []),
        {**pieces, "attention_stages": None},
    ]
    seen = set()
    for checkpointing in ("none", "block"):
        for strategy in strategies:
            for attention in attentions:
                made = replace(settings, checkpointing=checkpointing, strategy=strategy, **attention)
                if made not in seen:
                    seen.add(made)
                    yield made

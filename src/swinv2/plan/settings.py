"""How a model is to be trained, as far as memory depends on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from swinv2.config import Axes, did_you_mean

PRECISIONS = ("fp32", "bf16", "fp16")
STRATEGIES = ("none", "ddp", "zero1", "fsdp")
CHECKPOINTING = ("none", "block")
DEVICES = ("cuda", "cpu")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One training step on one of several equal devices.

    Args:
        image_size: pixels on each axis.
        batch: images on each device.
        precision: fp32, or bf16 and fp16 by autocast over fp32 weights.
        devices: how many share the work.
        strategy: none on one device; ddp (gradients live in buckets all the time), zero1 (ddp with the moments
            partitioned) or fsdp (weights, gradients and moments sharded by block, as FSDP2 does) on several.
        checkpointing: block computes each block's activations again in the backward pass.
        attention: a backend of `swinv2.ops`, or auto.
        attention_stages: stages that use it, counted from 0, the others being auto; None for all.
        budget_mb: MiB that "sequential" may take at a time; None for what suits the device.
        device: cuda or cpu; it need not be here.

    Raises:
        ValueError: a value that cannot be.
    """

    image_size: Axes
    batch: int = 1
    precision: str = "bf16"
    devices: int = 1
    strategy: str = "none"
    checkpointing: str = "none"
    attention: str = "auto"
    attention_stages: tuple[int, ...] | None = None
    budget_mb: float | None = None
    device: str = "cuda"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} is {value!r}{did_you_mean(value, known)}: use one of {', '.join(known)}.")
        for name in ("batch", "devices"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1.")
        if self.devices > 1 and self.strategy == "none":
            raise ValueError(f"{self.devices} devices need a strategy: use ddp, zero1 or fsdp.")
        if self.devices == 1 and self.strategy != "none":
            raise ValueError(
                f"strategy {self.strategy} shares a model between devices: give more than one, or use none."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """What may be varied to save memory, in words."""
        stages = "" if self.attention_stages is None else f" in stages {', '.join(map(str, self.attention_stages))}"
        within = "" if self.budget_mb is None else f" within {self.budget_mb:g} MiB"
        words = [
            "" if self.strategy == "none" else self.strategy,
            "checkpointing" if self.checkpointing == "block" else "",
            "" if self.attention == "auto" else f"{self.attention} attention{stages}{within}",
        ]
        return ", ".join(filter(None, words)) or "nothing"


_CHOICES = {
    "precision": PRECISIONS,
    "strategy": STRATEGIES,
    "checkpointing": CHECKPOINTING,
    "device": DEVICES,
}

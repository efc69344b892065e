"""What a model's weights say of themselves beside the architecture: plain data that travels in the weights file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swinv2.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Where weights come from and what their input and output mean; everything may be unknown.

    Args:
        classes: Names of the head's outputs, in order; empty where unknown.
        preprocessing: What images go through before the model.
        source: The format the weights were first read from: swinv2, timm, microsoft and so on.
        extra: Further remarks, by key.
    """

    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    source: str = "swinv2"
    extra: Mapping[str, str] = field(default_factory=dict)

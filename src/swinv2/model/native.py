"""What a model says of itself, so that a weights file of ours alone rebuilds it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn

from swinv2.config import SwinConfig
from swinv2.info import ModelInfo
from swinv2.model.stages import SwinStages


class Native(nn.Module):
    """Base of the models that files of ours hold: ``cls(config, **head_config)`` makes one, to take the tensors.

    A model with a head of its own holds a `SwinBackbone` as ``backbone``.

    Attributes:
        kind: what the file calls the model, such as "classifier"; `swinv2.tasks.models` finds its class by it.
        config: the architecture; ``num_classes`` is the number of ``info.classes``, whatever the head.
        info: class names, preprocessing and origin, as far as they are known.
        head_config: plain data (as JSON has it) that rebuild the head; empty where ``config`` tells everything.
    """

    kind: ClassVar[str]
    config: SwinConfig
    info: ModelInfo
    head_config: Mapping[str, Any] = MappingProxyType({})

    @property
    def body(self) -> SwinStages:
        """Patch embedding and stages, which can be frozen and economise: the model itself, or its backbone."""
        inner: Any = self
        body: SwinStages = getattr(self, "backbone", inner)
        return body

    @property
    def compilable(self) -> nn.Module:
        """What `torch.compile` is of use for: the part whose shapes follow from those of its input."""
        return self

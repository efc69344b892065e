"""What a step trains: a model of some kind, what it is given, and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swinv2.config import SwinConfig
from swinv2.model import Native, SwinTransformer
from swinv2.model.upernet import Segmenter, UperNetConfig
from swinv2.plan.settings import Settings

if TYPE_CHECKING:
    from swinv2.model.detect import DetectorConfig

OBJECTS = 100
"""Objects on an image; COCO's have fewer."""


@dataclass(frozen=True)
class Work:
    """Classification: images and labels, cross-entropy. Other kinds of models differ in its methods.

    Args:
        config: the architecture, and the number of classes.
    """

    config: SwinConfig

    def build(self) -> Native:
        """The model with fresh weights."""
        return SwinTransformer(self.config)

    def inputs(self, settings: Settings, device: torch.device) -> tuple[Any, Any]:
        """Random images, and what the loss compares them with."""
        return self.images(settings, device), torch.zeros(settings.batch, dtype=torch.long, device=device)

    def loss(self, model: Native, images: Any, targets: Any) -> Tensor:
        """What is minimised."""
        return F.cross_entropy(model(images).float(), targets)

    def bounds(self) -> AbstractContextManager[object]:
        """What the loss needs on tensors without numbers."""
        return nullcontext()

    def images(self, settings: Settings, device: torch.device) -> Tensor:
        """``[B, C_in, *size]``."""
        return torch.randn(settings.batch, self.config.in_channels, *settings.image_size, device=device)


@dataclass(frozen=True)
class Segmentation(Work):
    """UperNet with both heads' plain cross-entropy of pixels.

    Args:
        heads: what they look like.
    """

    heads: UperNetConfig = field(default_factory=UperNetConfig)

    def build(self) -> Native:
        """See `Work`."""
        return Segmenter(self.config, **self.heads.to_dict())

    def inputs(self, settings: Settings, device: torch.device) -> tuple[Any, Any]:
        """See `Work`."""
        labels = torch.zeros(settings.batch, *settings.image_size, dtype=torch.long, device=device)
        return self.images(settings, device), labels

    def loss(self, model: Native, images: Any, targets: Any) -> Tensor:
        """See `Work`."""
        both = model(images, with_auxiliary=True) if self.heads.auxiliary_map is not None else [model(images)]
        return torch.stack([_pixel_loss(logits, targets) for logits in both]).sum()


def _pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, reduction="none").mean()


@dataclass(frozen=True)
class Detection(Work):
    """A detector's losses, of images with many objects.

    Args:
        heads: the detector; its classes are those of ``config``.
        objects: on each image.
    """

    heads: DetectorConfig
    objects: int = OBJECTS

    def build(self) -> Native:
        """See `Work`."""
        from swinv2.model.detect.native import SwinDetector

        return SwinDetector(self.config, **self.heads.to_dict())

    def inputs(self, settings: Settings, device: torch.device) -> tuple[Any, Any]:
        """See `Work`."""
        images = [x.clone() for x in self.images(settings, device)]
        return images, [self._target(settings.image_size, device) for _ in images]

    def loss(self, model: Native, images: Any, targets: Any) -> Tensor:
        """See `Work`."""
        return torch.stack(list(model(images, targets).values())).sum()

    def bounds(self) -> AbstractContextManager[object]:
        """See `Work`."""
        from swinv2.plan.bounds import AtBounds

        return AtBounds()

    def _target(self, size: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        far = torch.full((2,), float(min(size)), device=device)
        corner, side = (torch.rand(self.objects, 2, device=device) for _ in range(2))
        target = {
            "boxes": torch.cat([0.5 * corner * far, (0.5 * corner + 0.1 + 0.4 * side) * far], dim=1),
            "labels": torch.ones(self.objects, dtype=torch.long, device=device),
        }
        if self.heads.masks:
            target["masks"] = torch.ones(self.objects, *size, dtype=torch.uint8, device=device)
        if self.heads.semantic_classes:
            target["semantic"] = torch.zeros(*size, dtype=torch.uint8, device=device)
        return target

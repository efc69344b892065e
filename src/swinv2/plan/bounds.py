"""A detector's step on tensors without numbers: where a shape depends on numbers, it is as large as it can be.

- Proposals: all that the configuration lets through (``proposals_before_nms`` of each level, then
  ``proposals_after_nms``): nothing is too small, and nothing is suppressed.
- Boxes that a stage, or the proposal network, learns from: ``box_samples`` of each image, of which the share
  ``box_positives`` stands for objects and has masks (``proposal_samples`` and ``proposal_positives``).
- RoIAlign: all boxes on one level.

What suppression itself takes is not seen; it is some megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import boxes as box_ops

from swinv2.model.detect import cascade, detector
from swinv2.model.detect.matching import Samples, Target, sample


@contextmanager
def at_bounds() -> Iterator[None]:
    """Let a detector's losses be computed of tensors without numbers."""
    bounds = AtBounds()
    with (
        patch.object(detector, "check_targets", lambda images, targets, config: list(targets)),
        patch.object(box_ops, "batched_nms", lambda boxes, scores, groups, iou: _numbers(boxes, len(boxes))),
        patch.object(cascade, "sample", bounds.sample),
        bounds,
    ):
        yield


class AtBounds(TorchFunctionMode):
    """Knows of some tensors how many entries are not 0 at most; of all others, all may be."""

    def __init__(self) -> None:
        super().__init__()
        self._most: Any = WeakTensorKeyDictionary()  # Tensor to int
        self._rest: Any = WeakTensorKeyDictionary()  # Tensor to int: entries that have equalled no number yet

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = _RULES.get(function)
        if rule is None:
            return function(*args, **(kwargs or {}))
        return rule(self, function, *args, **(kwargs or {}))

    def sample(
        self,
        proposals: Sequence[Tensor],
        targets: Sequence[Target],
        iou: float,
        sampler: BalancedPositiveNegativeSampler,
    ) -> Samples:
        """`swinv2.model.detect.matching.sample`, of whose boxes as many stand for objects as may."""
        drawn = sample(proposals, targets, iou, sampler)
        for labels in drawn.labels:
            self._most[labels] = int(sampler.batch_size_per_image * sampler.positive_fraction)
        return drawn

    def most(self, x: Tensor) -> int:
        """Entries that are not 0, at most."""
        return min(self._most.get(x, x.numel()), x.numel())

    def where(self, function: Any, condition: Tensor, *choices: Any) -> Any:
        """`torch.where`; the places alone are those of `most` entries."""
        if choices:
            return function(condition, *choices)
        return torch.empty(self.most(condition), condition.ndim, dtype=torch.long, device=condition.device).unbind(1)

    def get(self, function: Any, x: Tensor, index: Any) -> Tensor:
        """``x[index]``."""
        return function(x, self._places(index))

    def set(self, function: Any, x: Tensor, index: Any, value: Any) -> None:
        """``x[index] = value``."""
        index = self._places(index)
        function(x, index, value)
        if x in self._most and isinstance(index, Tensor):
            self._most[x] += index.numel()

    def zeros_like(self, function: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Nothing is set yet."""
        return self._knowing(function(*args, **kwargs), 0)

    def gt(self, function: Any, x: Tensor, other: Any) -> Tensor:
        """What is above 0 is not 0."""
        above = function(x, other)
        return self._knowing(above, self.most(x)) if isinstance(other, int) and other >= 0 else above

    def eq(self, function: Any, x: Tensor, other: Any) -> Tensor:
        """An entry equals one number: the first that is asked for takes all."""
        same = function(x, other)
        if isinstance(other, int):
            self._knowing(same, self._rest.get(x, x.numel()))
            self._rest[x] = 0
        return same

    def union(self, function: Any, x: Tensor, other: Tensor) -> Tensor:
        """``x | other``."""
        return self._knowing(function(x, other), self.most(x) + self.most(other))

    def cat(self, function: Any, tensors: Sequence[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """`torch.cat`."""
        return self._knowing(function(tensors, *args, **kwargs), sum(self.most(x) for x in tensors))

    def _knowing(self, x: Tensor, most: int) -> Tensor:
        self._most[x] = most
        return x

    def _places(self, index: Any) -> Any:
        """Indices in the place of flags."""
        if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) and index.ndim == 1:
            return _numbers(index, self.most(index))
        return index


def _numbers(like: Tensor, count: int) -> Tensor:
    return torch.empty(count, dtype=torch.long, device=like.device)


_RULES: dict[Any, Callable[..., Any]] = {
    torch.where: AtBounds.where,
    torch.zeros_like: AtBounds.zeros_like,
    torch.cat: AtBounds.cat,
    Tensor.__getitem__: AtBounds.get,
    Tensor.__setitem__: AtBounds.set,
    Tensor.gt: AtBounds.gt,
    Tensor.__eq__: AtBounds.eq,
    Tensor.__or__: AtBounds.union,
}

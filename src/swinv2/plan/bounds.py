"""A detector's step on tensors without numbers: where a shape depends on numbers, it is as large as it can be.

- Proposals: all that the configuration lets through (``proposals_before_nms`` of each level, then
  ``proposals_after_nms``): nothing is too small, and nothing is suppressed.
- Boxes that a stage, or the proposal network, learns from: ``box_samples`` of each image, of which the share
  ``box_positives`` stands for objects and has masks (``proposal_samples`` and ``proposal_positives``).
- RoIAlign: all boxes on one level.
- Checks of the targets find nothing.

The comparisons of suppression are not seen; they are some megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision  # noqa: F401  # brings torch.ops.torchvision
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary


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

    def most(self, x: Tensor) -> int:
        """Entries that are not 0, at most."""
        return min(self._most.get(x, x.numel()), x.numel())

    def where(self, function: Any, condition: Tensor, *choices: Any) -> Any:
        """`torch.where`; the places alone are those of `most` entries."""
        if choices:
            return function(condition, *choices)
        return torch.empty(self.most(condition), condition.ndim, dtype=torch.long, device=condition.device).unbind(1)

    def get(self, function: Any, x: Tensor, index: Any) -> Tensor:
        """``x[index]``, which takes no entry twice of a tensor that is known."""
        taken: Tensor = function(x, self._places(index))
        return self._knowing(taken, self.most(x)) if x in self._most else taken

    def set(self, function: Any, x: Tensor, index: Any, value: Any) -> None:
        """``x[index] = value``."""
        places = self._places(index)
        function(x, places, value)
        if x in self._most and isinstance(index, Tensor):
            self._most[x] += len(places[0])

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

    def all(self, function: Any, x: Tensor, *axes: Any, **kwargs: Any) -> Any:
        """What must hold of the inputs holds."""
        return function(x, *axes, **kwargs) if axes else True

    def any(self, function: Any, x: Tensor, *axes: Any, **kwargs: Any) -> Any:
        """What must not be in the inputs is not there."""
        return function(x, *axes, **kwargs) if axes else False

    def unique(self, function: Any, x: Tensor, **kwargs: Any) -> Tensor:
        """Boxes that are suppressed apart, one group after the other, are one group."""
        return x[:1]

    def nms(self, function: Any, boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
        """Nothing is suppressed."""
        return torch.empty(len(boxes), dtype=torch.long, device=boxes.device)

    def _knowing(self, x: Tensor, most: int) -> Tensor:
        self._most[x] = most
        return x

    def _places(self, index: Any) -> Any:
        """Indices by axis in the place of flags; those that are given stay."""
        if not isinstance(index, Tensor):
            return index
        return self.where(torch.where, index) if index.dtype in (torch.bool, torch.uint8) else (index,)


_RULES: dict[Any, Callable[..., Any]] = {
    torch.where: AtBounds.where,
    torch.zeros_like: AtBounds.zeros_like,
    torch.cat: AtBounds.cat,
    torch.unique: AtBounds.unique,
    torch.ops.torchvision.nms: AtBounds.nms,
    Tensor.all: AtBounds.all,
    Tensor.any: AtBounds.any,
    Tensor.__getitem__: AtBounds.get,
    Tensor.__setitem__: AtBounds.set,
    Tensor.gt: AtBounds.gt,
    Tensor.__eq__: AtBounds.eq,
    Tensor.__or__: AtBounds.union,
}

"""Which units of an image or a clip SimMIM hides: a pure function of the sample, blind to the model's patches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from swinv2.data.loading import SampleKey


@dataclass(frozen=True)
class Masking:
    """Hides ``ceil(ratio * units)`` of the units of every sample, all choices being equally likely.

    Args:
        unit: Pixels of a unit, frames first for clips; one number serves every axis.
        ratio: Share of the units that is hidden; the released models hide 0.6.
    """

    unit: int | tuple[int, ...] = 32
    ratio: float = 0.6

    def __post_init__(self) -> None:
        if min((self.unit,) if isinstance(self.unit, int) else self.unit) < 1:
            raise ValueError(f"mask unit {self.unit} is not a positive number of pixels: 32 is the published one.")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"mask ratio {self.ratio} is outside (0, 1]: 0.6 is the published one.")

    def pixels(self, axes: int) -> tuple[int, ...]:
        """Pixels of a unit, one number per axis."""
        unit = (self.unit,) * axes if isinstance(self.unit, int) else tuple(self.unit)
        if len(unit) != axes:
            raise ValueError(f"mask unit {self.unit} has {len(unit)} numbers for {axes} axes: give one per axis.")
        return unit

    def units(self, size: Iterable[int]) -> tuple[int, ...]:
        """Units along each axis of an image or a clip of `size` pixels.

        Raises:
            ValueError: The size is no multiple of the unit.
        """
        size = tuple(size)
        unit = self.pixels(len(size))
        if any(s % u for s, u in zip(size, unit, strict=True)):
            nearest = tuple(max(round(s / u), 1) * u for s, u in zip(size, unit, strict=True))
            raise ValueError(
                f"images of {_times(size)} pixels do not divide into mask units of {_times(unit)}: use an image size "
                f"such as {_times(nearest)}, or a mask unit that divides {_times(size)}."
            )
        return tuple(s // u for s, u in zip(size, unit, strict=True))

    def draw(self, size: Iterable[int], generator: torch.Generator) -> Tensor:
        """One mask ``[*units]``, True where hidden."""
        units = self.units(size)
        total = math.prod(units)
        mask = torch.zeros(total, dtype=torch.bool)
        mask[torch.randperm(total, generator=generator)[: hidden_units(total, self.ratio)]] = True
        return mask.view(units)

    def batch(self, size: Iterable[int], keys: Iterable[SampleKey]) -> Tensor:
        """Masks ``[B, *units]`` of samples, each seeded by its key alone: in any batch, process or order the same."""
        size = tuple(size)
        return torch.stack([self.draw(size, _generator(key)) for key in keys])


def hidden_units(total: int, ratio: float) -> int:
    """``ceil(ratio * total)``, of the number that is meant: 0.07 * 100 is 7.000000000000001 in binary."""
    return math.ceil(round(ratio * total, 9))


def _generator(key: SampleKey) -> torch.Generator:
    digest = hashlib.blake2b(repr(("mask", *key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def _times(numbers: Iterable[int]) -> str:
    return "x".join(map(str, numbers))

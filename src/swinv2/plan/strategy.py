"""What each device holds of weights, gradients and moments, and gathers of the others', by strategy.

- *none*: everything; a gradient exists from the instant it is computed.
- *ddp*: everything; gradients are views of buckets, which are always there (``gradient_as_bucket_view=True``; without
  it they exist twice).
- *zero1*: as ddp, but of the moments those of whole parameters that PyTorch's ZeroRedundancyOptimizer gives the device
  with most: the largest first, each to the device with least so far.
- *fsdp*: of every parameter, its gradient and its moments the first axis is cut into equal parts, padded (FSDP2). Each
  block is a group, and what is outside blocks another, which stays whole from its first use to the end of the
  backward pass. A block is gathered into one buffer and copied to its parameters. In the forward pass the buffer lives
  until the next block's is copied; in the backward pass the block before is gathered meanwhile, gradients stay whole
  until the block is done, and the buffer from which the block after scattered its own lives as long.

Weights, gradients and moments are fp32, and each parameter has a step counter beside its moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from swinv2.config import Axes
from swinv2.plan.recorder import ROOT, allocated
from swinv2.plan.settings import Settings
from swinv2.plan.trace import Trace

BYTES = 4
"""Of a number in fp32."""


@dataclass(frozen=True)
class States:
    """Bytes on a device of what lives from one step to the next."""

    weights: int
    gradients: int
    optimiser: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimiser


@dataclass(frozen=True)
class Peak:
    """Bytes on a device by part at one instant, and when that is."""

    when: str
    weights: int
    gradients: int
    optimiser: int
    gathered: int
    activations: int
    workspace: int

    @property
    def parts(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def total(self) -> int:
        """All parts."""
        return sum(self.parts.values())


PARTS = ("weights", "gradients", "optimiser", "gathered", "activations", "workspace")


def states(trace: Trace, settings: Settings) -> States:
    """What the device with most holds."""
    shapes = [shape for group in trace.shapes for shape in group]
    if settings.strategy == "fsdp":
        own = [_shard(shape, settings.devices) for shape in shapes]
    else:
        own = [prod(shape) for shape in shapes]
    weights = sum(allocated(BYTES * count, settings.device) for count in own)
    kept = _largest_share(own, settings.devices) if settings.strategy == "zero1" else own
    moments = sum(2 * allocated(BYTES * count, settings.device) + allocated(BYTES, settings.device) for count in kept)
    return States(weights, weights, moments)


def peak(trace: Trace, settings: Settings) -> Peak:
    """The highest instant of a step, the optimiser's included."""
    held = states(trace, settings)
    return max(_instants(trace, settings, held), key=lambda instant: instant.total)


def communicated(trace: Trace, settings: Settings) -> int:
    """Bytes that a device sends in a step, by rings: a sum over devices takes two passes over its data."""
    whole = BYTES * sum(prod(shape) for group in trace.shapes for shape in group)
    passes = {"none": 0, "ddp": 2, "zero1": 3, "fsdp": 3}[settings.strategy]
    return passes * whole * (settings.devices - 1) // settings.devices


def _instants(trace: Trace, settings: Settings, held: States) -> Iterator[Peak]:
    gathered = _Gathered(trace, settings.devices)
    counted = {"none": "as they come", "fsdp": "held"}.get(settings.strategy, "elsewhere")
    for segment in trace.segments:
        moment = segment.peaks[counted]
        extra, gradients = 0, held.gradients
        if settings.strategy == "none":
            gradients = moment.gradients
        elif settings.strategy == "fsdp":
            extra = moment.held + gathered.during(segment.group, segment.backward)
            gradients = (moment.gradients - moment.held) // settings.devices
        yield Peak(
            when=f"{'backward' if segment.backward else 'forward'} pass, {trace.groups[segment.group]}",
            weights=held.weights,
            gradients=gradients,
            optimiser=held.optimiser,
            gathered=extra,
            activations=moment.activations,
            workspace=moment.workspace,
        )
    roots = held.optimiser // 2 if settings.precision == "fp16" else 0  # the fused step takes nothing
    yield Peak("optimiser's step", held.weights, held.gradients, held.optimiser, 0, trace.inputs, roots)


class _Gathered:
    """Whole weights and buffers of FSDP, group by group in the order of the step."""

    def __init__(self, trace: Trace, devices: int) -> None:
        self._whole = [BYTES * devices * sum(_shard(shape, devices) for shape in group) for group in trace.shapes]
        self._after = len(self._whole)
        self._last_forward = ROOT

    def during(self, group: int, backward: bool) -> int:
        """Bytes while a group is at work; to be asked in the order of time."""
        if group != ROOT:
            self._last_forward = self._after = group
        root = self._whole[ROOT]
        if not backward:
            return root + self._whole[self._last_forward] + (self._whole[group] if group != ROOT else 0)
        before = self._whole[self._after - 1] if self._after - 1 > ROOT else 0
        if group == ROOT:
            return root + before + self._of(self._after)
        return root + self._whole[group] + before + self._of(group + 1)

    def _of(self, group: int) -> int:
        return self._whole[group] if group < len(self._whole) else 0


def _shard(shape: Axes, devices: int) -> int:
    """Numbers of a parameter on the first device."""
    return -(-shape[0] // devices) * prod(shape[1:])


def _largest_share(counts: list[int], devices: int) -> list[int]:
    shares: list[list[int]] = [[] for _ in range(devices)]
    sums = [0] * devices
    for count in sorted(counts, reverse=True):
        least = sums.index(min(sums))
        shares[least].append(count)
        sums[least] += count
    return max(shares, key=lambda share: (sum(share), len(share)))

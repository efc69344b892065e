"""Bytes that live at once while operators run, by part, and their operations.

A storage lives from the operator that returns it until nothing refers to it any more, as in PyTorch's allocator: on
fake tensors the same Python and autograd code holds and lets go the same tensors, and only their numbers are missing.
What an operator takes inside is seen for those that PyTorch makes of others; our own state it (`Backend.workspace`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from swinv2.benchmark import roofline
from swinv2.ops.dispatch import BACKENDS, Call

ROUNDED_TO = {"cuda": 512}
"""PyTorch's caching allocator gives multiples of so many bytes."""


def allocated(size: int, device: str) -> int:
    """What a tensor of ``size`` bytes takes in the allocator of a kind of device."""
    rounded = ROUNDED_TO.get(device, 1)
    return -(-size // rounded) * rounded


ROOT = 0
"""Group of the parameters outside blocks; those of blocks count from 1."""


@dataclass(frozen=True)
class Moment:
    """Bytes of everything but weights and moments at one instant.

    Args:
        activations: tensors of the forward and the backward pass, gradients included that are not yet accumulated.
        workspace: what one of our own operators takes at this instant beside its inputs and results.
        gradients: accumulated ones.
        held: those of them that belong to the running group or to the root.
    """

    activations: int = 0
    workspace: int = 0
    gradients: int = 0
    held: int = 0


COUNTED: dict[str, Callable[[Moment], int]] = {
    "as they come": lambda moment: moment.activations + moment.workspace + moment.gradients,
    "elsewhere": lambda moment: moment.activations + moment.workspace,
    "held": lambda moment: moment.activations + moment.workspace + moment.held,
}
"""How gradients take part in a peak: from the instant they exist; not at all, as they have a place that is always
there; or until their group is done, which then shards them."""


@dataclass
class Segment:
    """A stretch of the step in which one group of parameters is at work, and its highest moments."""

    group: int
    backward: bool
    peaks: dict[str, Moment] = field(default_factory=lambda: dict.fromkeys(COUNTED, Moment()))

    def see(self, moment: Moment) -> None:
        """Keep it where it is the highest."""
        for name, count in COUNTED.items():
            if count(moment) > count(self.peaks[name]):
                self.peaks[name] = moment


class Recorder(TorchDispatchMode):
    """Follows storages as one kind of device would allocate them; weights that exist before count as nothing."""

    def __init__(self, device: str, weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.segments = [Segment(ROOT, backward=False)]
        self.flops = {False: 0, True: 0}
        self._device = device
        self._sizes = {weight.untyped_storage()._cdata: 0 for weight in weights}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._owners: dict[int, int] = {}
        self._activations, self._gradients = 0, {ROOT: 0}

    def hold(self, tensors: Iterable[Tensor]) -> int:
        """Count tensors that exist before as activations; their bytes."""
        before = self._activations
        for tensor in tensors:
            self._watch(tensor.untyped_storage())
        self._see(0)
        return self._activations - before

    def enter(self, group: int, backward: bool) -> None:
        """From now on this group is at work."""
        self.segments.append(Segment(group, backward))
        self._see(0)

    def accumulated(self, parameter: Tensor, group: int) -> None:
        """The gradient of a parameter is one from now on, and no activation."""
        assert parameter.grad is not None
        key = parameter.grad.untyped_storage()._cdata
        if key not in self._owners and key in self._sizes:
            self._owners[key] = group
            self._activations -= self._sizes[key]
            self._gradients[group] = self._gradients.get(group, 0) + self._sizes[key]
        self._see(0)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for leaf in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._watch(leaf.untyped_storage())
        own = OwnOperator.of(function, args, self._device)
        self.flops[self.segments[-1].backward] += (
            _flops(function, args, kwargs or {}, out) if own is None else own.flops
        )
        self._see(0 if own is None else own.workspace)
        return out

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = size = allocated(storage.nbytes(), self._device)
            self._activations += size
            self._references[key] = weakref.ref(storage, partial(self._forget, key))

    def _forget(self, key: int, _: object) -> None:
        size, owner = self._sizes.pop(key), self._owners.pop(key, None)
        del self._references[key]
        if owner is None:
            self._activations -= size
        else:
            self._gradients[owner] -= size

    def _see(self, workspace: int) -> None:
        group = self.segments[-1].group
        held = self._gradients[ROOT] + (self._gradients.get(group, 0) if group != ROOT else 0)
        self.segments[-1].see(Moment(self._activations, workspace, sum(self._gradients.values()), held))


@dataclass(frozen=True)
class OwnOperator:
    """A call of one of our own operators: what a trace does not see of it."""

    workspace: int
    flops: int

    @classmethod
    def of(cls, function: Any, args: tuple[Any, ...], device: str) -> OwnOperator | None:
        """None for all operators of others. The names are ``swinv2::BACKEND_attention`` and ``..._backward``."""
        name: str = function._schema.name
        if not name.startswith("swinv2::"):
            return None
        named = dict(zip((argument.name for argument in function._schema.arguments), args, strict=False))
        qkv, window = named["qkv"], tuple(named["window"])
        stated = BACKENDS[name.removeprefix("swinv2::").partition("_attention")[0]].workspace
        assert stated is not None, f"{name} must state its workspace"
        call = Call(
            device=device,
            dtype=qkv.dtype,
            window=window,
            head_dim=qkv.shape[-1],
            shape=tuple(qkv.shape),
            budget=named.get("budget", 0),
        )
        work = roofline.attention_backward if name.endswith("_backward") else roofline.attention
        once = work(tuple(qkv.shape[1:-3]), window, qkv.shape[-2], qkv.shape[-1], qkv.shape[0])
        return cls(stated(call), once.flops)


_ON_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_ON_CPU_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _flops(function: Any, args: Any, kwargs: Any, out: Any) -> int:
    """By PyTorch's formulas: two for each multiplication and addition of a product, nothing for the rest."""
    operator = function._overloadpacket
    if operator is _ON_CPU:
        return sdpa_flop_count(*(x.shape for x in args[:3]))
    if operator is _ON_CPU_BACKWARD:
        return sdpa_backward_flop_count(*(x.shape for x in args[:4]))
    formula = flop_registry.get(operator)
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=out))

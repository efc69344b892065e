"""A step as it would run on CUDA, on meta tensors: the autograd engine wants a driver even for fake tensors on CUDA.

Meta tensors are on no device that this library treats specially, so that it decides as on CUDA. What PyTorch decides
by device is decided here:

- attention over a bias that needs a gradient runs the memory-efficient kernel: flash attention takes no bias, and
  cuDNN's kernel gives no gradient of it; without a bias flash attention keeps the same as that kernel;
- autocast: linear layers and convolutions in half precision, LayerNorm in fp32, with copies of the weights kept
  until the forward pass (or a block's recomputation) is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from swinv2.model.block import SwinBlock
from swinv2.model.position_bias import PositionBias
from swinv2.ops.dispatch import BACKENDS, Backend, Call

PADDED_TO = 8
"""PyTorch pads a bias for the memory-efficient kernel to rows of a multiple of so many numbers."""
IN_HALF = (F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose2d)


@contextmanager
def as_on_cuda(model: nn.Module, half: torch.dtype | None) -> Iterator[AbstractContextManager[object]]:
    """Let a model on the meta device run as on CUDA; yields the context of its forward pass, autocast to ``half``."""
    mode = AsOnCuda(half)
    for module in model.modules():
        if isinstance(module, PositionBias):  # runs without autocast
            module.register_forward_pre_hook(lambda module, args: mode.pause())
            module.register_forward_hook(lambda module, args, out: mode.go_on())
        if isinstance(module, SwinBlock):
            module.attention.register_forward_pre_hook(lambda module, args: mode.recompute())
            module.mlp.register_forward_hook(lambda module, args, out: mode.recomputed(), always_call=True)
    backends = {name: replace(each, refuses=_on_cuda(each)) for name, each in BACKENDS.items()}
    with patch.dict(BACKENDS, backends), mode:
        yield mode.forward_pass()


def _on_cuda(backend: Backend) -> Callable[[Call], str | None]:
    return lambda call: backend.refuses(replace(call, device="cuda"))


class AsOnCuda(TorchFunctionMode):
    """Takes the decisions that PyTorch takes by device."""

    def __init__(self, half: torch.dtype | None) -> None:
        super().__init__()
        self._half = half
        self._paused = False
        self._in_backward = False
        self._copies: dict[Tensor, Tensor] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            return _memory_efficient(*args, **kwargs)
        if self._half is not None and not self._paused:
            if function in IN_HALF:
                args = [self._narrow(each) if isinstance(each, Tensor) else each for each in args]
            elif function is F.layer_norm:
                args = [each.float() if isinstance(each, Tensor) else each for each in args]
        return function(*args, **kwargs)

    def pause(self) -> None:
        """Autocast is off."""
        self._paused = True

    def go_on(self) -> None:
        """Autocast is on again."""
        self._paused = False

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Copies of weights go at its end; what is computed again from then on has its own."""
        yield
        self._in_backward = True
        self._copies.clear()

    def recompute(self) -> None:
        """A block begins; `backward` has switched function modes off."""
        if self._in_backward:
            self.__enter__()  # type: ignore[no-untyped-call]

    def recomputed(self) -> None:
        """A block's last layers have run, or as much of them as the backward pass needs."""
        if self._in_backward:
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._copies.clear()

    def _narrow(self, x: Tensor) -> Tensor:
        if x.dtype is not torch.float32:
            return x
        if not isinstance(x, nn.Parameter):
            return x.to(self._half)
        if x not in self._copies:
            self._copies[x] = x.to(self._half)
        return self._copies[x]


def _memory_efficient(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    bias = None
    if attn_mask is not None:
        keys = attn_mask.shape[-1]
        if keys % PADDED_TO:
            attn_mask = F.pad(attn_mask, (0, -keys % PADDED_TO))[..., :keys]
        bias = attn_mask.expand(*q.shape[:3], keys)
    out: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, scale=scale)[0]
    return out

"""What is timed: one forward pass, or one training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinv2.benchmark.memory import Usage, usage
from swinv2.config import Axes

Call = Callable[[], object]


def images(batch: int, channels: int, size: Axes, device: torch.device) -> Tensor:
    """Random input ``[B, C, *size]``, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator).to(device)


def inference(model: nn.Module, x: Tensor, dtype: torch.dtype, compiled: bool = False) -> Call:
    """A forward pass in evaluation and inference mode; the model is cast to ``dtype`` and moved to the input."""
    module = model.to(x.device, dtype).eval()
    run = torch.compile(module) if compiled else module
    x = x.to(dtype)

    def call() -> object:
        with torch.inference_mode():
            return run(x)

    return call


def training(model: nn.Module, x: Tensor, dtype: torch.dtype, compiled: bool = False) -> Call:
    """Forward pass, cross-entropy, backward pass and a fused AdamW step; half precision is autocast over fp32.

    The model needs a head; its drop path is as it was built.
    """
    module = model.to(x.device, torch.float32).train()
    run = torch.compile(module) if compiled else module
    with torch.no_grad():
        classes = module.eval()(x[:1]).shape[-1]
    module.train()
    labels = torch.arange(len(x), device=x.device) % classes
    return optimising(module, lambda: F.cross_entropy(run(x).float(), labels), x.device, dtype)


def optimising(model: nn.Module, loss: Callable[[], Tensor], device: torch.device, dtype: torch.dtype) -> Call:
    """A loss, its backward pass and a fused AdamW step; half precision is autocast over fp32."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, fused=True)

    def step() -> object:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.detach()

    return step


WORK: Mapping[str, Callable[..., Call]] = {"inference": inference, "training": training}


def memory(work: str, call: Call, device: torch.device) -> Usage:
    """Memory above the loaded model: of a first forward pass, or of the second training step, gradients and the
    optimiser's state included.
    """
    return usage(call, device, calls=2 if work == "training" else 1)

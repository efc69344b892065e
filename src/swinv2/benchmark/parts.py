"""Where the time of a forward pass goes, by the profiler, and how long its matrix products take when run alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch._C._autograd import DeviceType
from torch.autograd.profiler import profile

from swinv2.benchmark.roofline import linears
from swinv2.benchmark.timing import median_seconds
from swinv2.config import Axes, SwinConfig

# The first pattern that an operator's name fits decides.
PARTS = {
    "attention": r"scaled_dot_product|flash|softmax|::bmm$|::baddbmm$|::matmul$|window_attention|_attention|triton",
    "linear": r"linear|::addmm$|::mm$|convolution|conv\dd|mkldnn|::gemm",
    "norms": r"norm|vecdot",
    "GELU": r"gelu",
    "gather and index": r"index|gather|::take|::roll|scatter",
    "casts and copies": r"copy|::to$|clone|contiguous|::cat$|::pad$|constant_pad",
    "element-wise": r"::(add|mul|sub|div|reciprocal|clamp\w*|masked_fill|where|exp|sigmoid|relu|mean|sum|neg|rsqrt)_?$",
}
OTHER = "other"


@dataclass(frozen=True)
class Part:
    """Seconds of a part in one call, its share, and the operators that took most of them."""

    name: str
    seconds: float
    share: float
    operators: tuple[str, ...]


def part_of(operator: str) -> str:
    """The part that an operator such as ``aten::addmm`` belongs to."""
    return next((name for name, pattern in PARTS.items() if re.search(pattern, operator)), OTHER)


def time_by_part(run: Callable[[], object], device: torch.device, calls: int = 2) -> list[Part]:
    """Own time of every operator of a call, summed by part, the longest first; on CUDA that of the kernels it starts.

    The profiler itself takes some microseconds an operator, which fall to the part of that operator on a CPU.
    """
    run()
    cuda = device.type == "cuda"
    with profile(use_device="cuda" if cuda else None, use_kineto=True) as recorded:
        for _ in range(calls):
            run()
    seconds: dict[str, dict[str, float]] = {}
    for event in recorded.key_averages():
        if cuda and event.device_type != DeviceType.CPU:
            continue  # a kernel, which its operator has too
        own = (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6 / calls
        if own > 0:
            seconds.setdefault(part_of(event.key), {})[event.key] = own
    total = sum(sum(each.values()) for each in seconds.values())
    parts = [
        Part(name, sum(each.values()), sum(each.values()) / total, tuple(sorted(each, key=each.__getitem__)[:-4:-1]))
        for name, each in seconds.items()
    ]
    return sorted(parts, key=lambda part: -part.seconds)


def linear_floor(config: SwinConfig, image_size: Axes, batch: int, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds of a forward pass's matrix products run alone: each shape by `torch.nn.functional.linear`, no bias."""
    total = 0.0
    with torch.inference_mode():
        for layer in linears(config, image_size, batch):
            x = torch.randn(layer.rows, layer.inputs, device=device).to(dtype)
            weight = torch.randn(layer.outputs, layer.inputs, device=device).to(dtype)
            total += layer.count * median_seconds(partial(F.linear, x, weight), device, 3)
    return total

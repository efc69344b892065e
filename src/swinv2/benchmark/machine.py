"""The machine: what it is, and the ceilings that it reaches by measurement."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import swinv2
from swinv2.benchmark.timing import median_seconds

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SLOW_SECONDS = 2.0
"""A product of 2048 x 2048 matrices that would take longer is not run."""
LIBRARIES = ("torch", "triton", "timm", "transformers", "torchvision")


def dtype_name(dtype: torch.dtype) -> str:
    """As the tables write it: fp32, bf16, fp16."""
    return next((name for name, each in DTYPES.items() if each == dtype), str(dtype).removeprefix("torch."))


@dataclass(frozen=True)
class Ceilings:
    """What a device reaches at best, measured.

    Args:
        flops: floating point operations a second of a product of 2048 x 2048 matrices, by dtype (fp32, bf16, fp16).
        bandwidth: bytes a second, read and written, of a copy of a tensor that no cache holds.
        exponentials: fp32 exponentials a second; on CUDA the product of units and clock (16 a multiprocessor and
            cycle), as no kernel of PyTorch's is bound by them.
    """

    flops: dict[str, float]
    bandwidth: float
    exponentials: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def describe(device: torch.device) -> dict[str, Any]:
    """Processor, threads, allocator settings and versions: what has to be equal for two figures to be compared."""
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "allocator": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("MALLOC_", "PYTORCH_", "LD_PRE"))
        },
        "python": platform.python_version(),
        "versions": {"swinv2": swinv2.__version__, **_versions()},
    }
    if device.type == "cuda":
        found["cuda"] = torch.version.cuda
        found["tf32"] = torch.backends.cuda.matmul.allow_tf32
    return found


def _versions() -> dict[str, str]:
    """Of the libraries that are installed, without importing them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return model[1] if model else platform.processor()


def measure_ceilings(device: torch.device, dtypes: tuple[str, ...] = ("fp32", "bf16")) -> Ceilings:
    """Measure a device; some seconds."""
    with torch.inference_mode():
        flops = {name: matmul_flops(device, DTYPES[name]) for name in dtypes}
        return Ceilings(flops, copy_bandwidth(device), exponentials(device))


def matmul_flops(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """Operations a second of a square product, two for each multiplication and addition.

    A dtype that the processor only emulates, slowly, is measured with a product of a quarter of the size.
    """
    quarter = _product_flops(device, dtype, size // 4, 1)
    if 2 * size**3 / quarter > SLOW_SECONDS:
        return quarter
    return _product_flops(device, dtype, size, 7)


def _product_flops(device: torch.device, dtype: torch.dtype, size: int, rounds: int) -> float:
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: torch.mm(a, b), device, rounds)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, of a copy of 256 MiB (1 GiB on CUDA)."""
    source = torch.ones((1024 if device.type == "cuda" else 256) * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / median_seconds(lambda: target.copy_(source), device)


def exponentials(device: torch.device) -> float:
    """Exponentials a second in fp32, of numbers in the cache."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return 16.0 * properties.multi_processor_count * properties.clock_rate * 1e3  # the clock is in kHz
    x = torch.randn(2**16 * torch.get_num_threads())
    out = torch.empty_like(x)
    return x.numel() / median_seconds(lambda: torch.exp(x, out=out), device)

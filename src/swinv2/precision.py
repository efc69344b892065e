"""Where numbers must not be rounded: fp32 at least, whatever autocast says."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """fp32 for half-precision dtypes, the dtype itself for fp32 and fp64."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which operations keep the dtypes they are given."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_emulated(device: str, dtype: torch.dtype) -> bool:
    """Whether a device computes products of a half-precision dtype many times slower than those of fp32."""
    if device != "cpu":
        return False
    if dtype is torch.bfloat16:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype is torch.float16 and not torch.ops.mkldnn._is_mkldnn_fp16_supported()

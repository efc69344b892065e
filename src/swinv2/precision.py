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

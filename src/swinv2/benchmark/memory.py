"""Memory that a call takes above what was there before it.

On a CPU, the profiler's memory events are added up in the order of time: bytes live in PyTorch's allocator, to the
byte, whatever the C library keeps. The profiler does not see that memory is released which was there before. On CUDA,
PyTorch's caching allocator counts by itself. What the operating system counts stands beside it: it also has the C
library's slack and the scratch memory of oneDNN and OpenMP, and lacks what lay unused in the process.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._C._profiler import _EventType
from torch.autograd.profiler import profile, record_function

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_LAST = "swinv2: the call that counts"


@dataclass(frozen=True)
class Usage:
    """Bytes above what was there before: the most that was live at once, and what is still live after the call."""

    peak: int
    left: int
    resident: int | None = None
    """Growth of the process's resident memory at its highest; None where the system does not tell (not Linux)."""


def usage(run: Callable[[], object], device: torch.device, calls: int = 1) -> Usage:
    """Memory of a call, above what was there before the first.

    Args:
        run: a result that it returns is let go at once.
        device: CUDA devices count by PyTorch's caching allocator, all others by the profiler.
        calls: it is called so often, and the last counts, with what those before it left: with 2, a training step
            with the optimiser's state.
    """
    gc.collect()  # what waits to be collected must not be released while we count
    return (_cuda_usage if device.type == "cuda" else _cpu_usage)(run, device, calls)


def _cuda_usage(run: Callable[[], object], device: torch.device, calls: int) -> Usage:
    square = torch.ones(32, 32, device=device)
    torch.mm(square, square)  # cuBLAS takes its workspace, which is nobody's
    before = torch.cuda.memory_allocated(device)
    for _ in range(calls):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
    torch.cuda.synchronize(device)
    return Usage(torch.cuda.max_memory_allocated(device) - before, torch.cuda.memory_allocated(device) - before)


def _cpu_usage(run: Callable[[], object], _: torch.device, calls: int) -> Usage:
    with profile(profile_memory=True):  # what the profiler itself needs is there before we count
        torch.empty(1)
    resident = _resident("VmRSS")
    if resident is not None:
        _CLEAR.write_text("5")  # the high-water mark of building the model must not hide ours
    with profile(profile_memory=True) as recorded:
        for number in range(calls):
            with record_function(_LAST if number == calls - 1 else "earlier call"):
                run()
    highest = _resident("VmHWM")
    live, peak = 0, None
    for change in _changes(recorded.kineto_results.experimental_event_tree()):
        if change is None:  # the last call begins
            peak = live
            continue
        live += change
        peak = None if peak is None else max(peak, live)
    grown = None if resident is None or highest is None else max(0, highest - resident)
    return Usage(peak or 0, live, grown)


def _changes(roots: list[Any]) -> Iterator[int | None]:
    """Signed size of every allocation and release on the CPU in the order of time; None where the last call begins."""
    found: list[tuple[int, int, int | None]] = []
    waiting = list(reversed(roots))
    while waiting:
        event = waiting.pop()
        if event.name == _LAST:
            found.append((event.start_time_ns, len(found), None))
        elif event.tag == _EventType.Allocation and event.extra_fields.device.type == "cpu":
            found.append((event.start_time_ns, len(found), event.extra_fields.alloc_size))
        waiting.extend(reversed(event.children))
    return (change for _, _, change in sorted(found, key=lambda each: each[:2]))


def _resident(field: str) -> int | None:
    """VmRSS, resident now, or VmHWM, resident at most; None where the system does not tell."""
    if not (_STATUS.exists() and _CLEAR.exists()):
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None

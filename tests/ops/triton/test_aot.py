"""The table of tiles compiled ahead of time for GPUs that are not here: registers, shared memory and spills.

The kernels must be importable without the interpreter, so each architecture has a process of its own.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes a program may use
# Bytes of a thread's stack. Where a cap on registers buys another program a multiprocessor, up to 32 bytes may spill;
# and windows of 7 x 7, whose divisions are no shifts, take more than the 255 registers that there are.
SPILLS = {"backward (7, 7)": 96}
FEW = 32


@pytest.fixture(scope="module", params=sorted(SHARED))
def compiled(request):
    """Resources of each kernel on one architecture."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("compile_tiles.py")), str(request.param)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return request.param, [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_tiles_fit_the_machine(compiled):
    capability, records = compiled
    assert {record["kernel"] for record in records} == {"forward", "backward", "queries", "keys", "pairs", "reduce"}
    for record in records:
        allowed = SPILLS.get(f"{record['kernel']} {tuple(record['window'])}", FEW)
        assert record["registers"] <= 255, record
        assert record["spills"] <= allowed, record
        assert record["shared"] <= SHARED[capability], record

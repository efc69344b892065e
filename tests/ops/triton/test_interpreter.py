"""The Triton backend on the CPU: the operator's tests and the kernels' own, in a process that interprets kernels."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OURS = ["tests/ops/test_window_attention.py", "tests/ops/triton/test_kernels.py"]

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed"),
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this process interprets already"),
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("marks", ["not slow", "slow"], ids=["share", "rest"])
def test_in_the_interpreter(marks):
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-k", "triton", "-m", f"{marks} and not gpu", *OURS]
    command += ["-p", "no:cacheprovider", "--timeout=1200"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert " passed" in result.stdout

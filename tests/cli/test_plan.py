import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = ("swinv2_nano", "--image-size", "64", "--window-size", "8")


def test_a_plan_is_printed_and_written(swinv2: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    arguments = ("plan", *SMALL, "--batch", "2", "--devices", "4", "--strategy", "zero1", "--output", folder)
    status, out, err = swinv2(*arguments)
    assert status == 0, err
    assert out.startswith("swinv2_nano: training step at 64 x 64, batch 2 on each of 4 devices, bf16, zero1")
    assert "| optimiser |" in out
    assert "24 GB: fits" in out
    assert "| 24 GB | ddp |" in out
    assert sorted(path.name for path in folder.iterdir()) == ["plan.json", "plan.md", "plan.png"]
    result = json.loads((folder / "plan.json").read_text())
    assert result["settings"]["strategy"] == "zero1"
    assert result["cheapest"]["24 GB"]["settings"]["strategy"] == "ddp"
    assert result["total"] > result["states"]["weights"]

    status, _, err = swinv2(*arguments)
    assert status == 2
    assert "plan.json exists: choose another name, or add --overwrite" in err


def test_a_plan_beside_a_measured_step(swinv2: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = swinv2("plan", *SMALL, "--device", "cpu", "--precision", "fp32", "--measure")
    assert status == 0, err
    assert "Measured on this machine:" in out
    assert list(tmp_path.iterdir()) == []


def test_wrong_input_is_one_sentence(swinv2: Callable) -> None:
    def refused(sentence: str, *arguments: object) -> None:
        status, out, err = swinv2("plan", *arguments)
        assert (status, out) == (2, "")
        assert sentence in err
        assert "Traceback" not in err

    refused("There is no model 'swinv2_tiy' (the nearest is 'swinv2_tiny')", "swinv2_tiy")
    refused("'0,x' names no stages: write 0,1", "--attention-stages", "0,x")
    refused("2 devices need a strategy", *SMALL, "--devices", "2", "--strategy", "none")
    refused("batch is 0, but must be", *SMALL, "--batch", "0")
    refused("There is no attention backend 'sdp'", *SMALL, "--attention", "sdp")
    refused("There is no stage 9", *SMALL, "--attention", "sequential", "--attention-stages", "9")
    refused("'sdpa' keeps to no budget of memory", *SMALL, "--attention", "sdpa", "--budget-mb", "64")
    refused("cannot run here: it needs an NVIDIA GPU", *SMALL, "--attention", "triton", "--device", "cpu")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom swinv2.cli import main\n"
        "try: main(['plan', '--help'])\nexcept SystemExit: pass\n"
        "print('heavy:', {'torch', 'matplotlib', 'lightning'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: swinv2 plan" in done.stdout
    assert "heavy: set()" in done.stdout

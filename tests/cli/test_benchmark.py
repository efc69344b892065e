import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = ("--image-size", "32", "--batch", "1", "--rounds", "2", "--dtype", "fp32", "--device", "cpu")


def test_a_model_by_name_is_measured(swinv2: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("timm")
    arguments = (
        "benchmark",
        "swinv2_nano",
        *SMALL,
        "--backend",
        "auto,sdpa",
        "--against",
        "timm",
        "--window-size",
        "4",
    )
    status, out, err = swinv2(*arguments)
    assert status == 0, err
    folder = tmp_path / "benchmark-swinv2_nano"
    assert sorted(path.name for path in folder.iterdir()) == ["benchmark.json", "benchmark.md", "benchmark.png"]
    result = json.loads((folder / "benchmark.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["swinv2", "swinv2 sdpa", "timm"]
    for row in result["rows"]:
        assert row["images_per_second"] == pytest.approx(1 / row["seconds"])
        assert row["peak_bytes"] > 1e5
        assert row["rounds"] == 2
    assert result["config"]["window_size"] == [[4, 4]] * 4
    assert result["parts"]["fp32"]["floor"] > 0
    assert "sequential: picked, because" in (folder / "benchmark.md").read_text()
    assert "| timm | fp32 |" in out
    assert "fp32: memory of timm" in err

    (folder / "benchmark.json").write_text("mine")
    status, _, err = swinv2(*arguments)
    assert status == 2
    assert "benchmark.json exists: choose another name, or add --overwrite" in err
    assert (folder / "benchmark.json").read_text() == "mine"


def test_training_steps_of_a_weights_file(swinv2: Callable, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    status, out, err = swinv2("benchmark", weights, *SMALL[2:], "--train", "--output", folder)
    assert status == 0, err
    result = json.loads((folder / "benchmark.json").read_text())
    assert result["plan"]["work"] == "training"
    assert result["plan"]["image_size"] == [8, 8]  # what the file says of its images
    assert [row["error"] for row in result["rows"]] == [""]
    assert out.startswith("|  | dtype |")


def test_wrong_input_is_one_sentence(swinv2: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(sentence: str, *arguments: object) -> None:
        status, out, err = swinv2("benchmark", *arguments)
        assert (status, out) == (2, "")
        assert sentence in err
        assert "Traceback" not in err

    refused("'int8' is none of fp32, bf16, fp16", "--dtype", "int8")
    refused("'0' is not a whole number above 0", "--batch", "0")
    refused("there is no attention backend 'sdp'", "swinv2_nano", "--backend", "sdp")
    refused("the device 'gpu' cannot be used", "swinv2_nano", "--device", "gpu")
    refused("no_such", "no_such.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom swinv2.cli import main\n"
        "try: main(['benchmark', '--help'])\nexcept SystemExit: pass\n"
        "print('heavy:', {'torch', 'timm', 'transformers', 'matplotlib', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: swinv2 benchmark" in done.stdout
    assert "heavy: set()" in done.stdout

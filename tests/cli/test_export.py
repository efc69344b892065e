import dataclasses
import json
from pathlib import Path

import onnx
import pytest
import torch

from swinv2 import load
from swinv2.checkpoint import save
from swinv2.config import make_config
from swinv2.export import FORMATS, exporting
from swinv2.model.detect.native import SwinDetector
from swinv2.tasks.models import load_model


@pytest.fixture
def export(swinv2):
    return lambda *arguments: swinv2("export", *arguments)


@pytest.mark.slow
def test_the_file_predicts_without_the_library(export, weights: Path, tmp_path: Path) -> None:
    status, out, err = export(weights, "--format", "onnx", "--window-size", "3")
    target = weights.with_suffix(".onnx")
    assert (status, out) == (0, "")
    assert "checked on inputs of 1x3x3x3, 2x3x3x15, 1x3x13x15: differs from the model by" in err
    assert f"wrote {target} (" in err
    said = {entry.key: json.loads(entry.value) for entry in onnx.load(target).metadata_props if entry.key == "classes"}
    assert said == {"classes": ["owl", "fox", "dog", "cat"]}
    x = torch.randn(3, 3, 21, 10)
    (logits,) = FORMATS["onnx"].open(target)(x)
    with torch.no_grad():
        torch.testing.assert_close(logits, load(weights, window_size=3)(x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_half_precision_where_it_is_told(export, weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.pt2"
    assert export(weights, "--format", "pt2", "--dtype", "bf16", "--output", target).status == 0
    (logits,) = FORMATS["pt2"].open(target)(torch.randn(1, 3, 8, 8, dtype=torch.bfloat16))
    assert logits.dtype == torch.bfloat16


def test_of_a_detector_the_maps_of_its_backbone_are_exported(export, tmp_path: Path, randomise) -> None:
    """The command says how, and that works."""
    config = make_config(
        "swinv2_nano", window_size=2, image_size=16, num_classes=2, embed_dim=8, depths=(1, 1), num_heads=(1, 2)
    )
    path = tmp_path / "detector.safetensors"
    save(randomise(SwinDetector(config, pyramid_channels=8, box_features=8)), path)
    status, out, err = export(path, "--format", "pt2")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "detector.safetensors holds a detector, whose head cannot be exported: export a classifier, or" in err
    backbone = load_model(path).backbone
    maps = tmp_path / "maps.pt2"
    exporting.export(backbone, maps, "pt2")
    x = torch.randn(1, 3, 30, 44)
    with torch.no_grad():
        for ours, theirs in zip(FORMATS["pt2"].open(maps)(x), backbone(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_wrong_input_is_one_sentence(export, weights: Path, tmp_path: Path, monkeypatch) -> None:
    before = sorted(tmp_path.iterdir())

    def refused(sentence, *arguments):
        status, out, err = export(*arguments)
        assert (status, out) == (2, "")
        assert sentence in err
        assert "Traceback" not in err

    refused("invalid choice: 'tflite'", weights, "--format", "tflite")
    refused("--format", weights)
    refused("does not end in .onnx", weights, "--format", "onnx", "--output", tmp_path / "model.pt2")
    refused("is no folder to write into", weights, "--format", "pt2", "--output", weights / "model.pt2")
    refused("no_such_file.safetensors", tmp_path / "no_such_file.safetensors", "--format", "pt2")
    refused("the weights are torch.bfloat16", weights, "--format", "onnx", "--dtype", "bf16")
    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], packages=("no_such_package",)))
    refused("no_such_package is missing: install it with pip install 'swinv2[export]'", weights, "--format", "onnx")
    target = tmp_path / "weights.pt2"
    target.write_text("mine")
    refused("weights.pt2 exists: choose another name, or add --overwrite", weights, "--format", "pt2")
    assert target.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == sorted([*before, target])

"""A model in, a checked file out; and what is refused."""

import dataclasses
import json
import math

import onnx
import pytest
import torch

from swinv2.export import FORMATS, export
from swinv2.export.exporting import TOLERANCE, check_room, check_shapes, largest_difference
from swinv2.info import ModelInfo
from swinv2.model import create_model
from swinv2.preprocessing import Preprocessing
from swinv2.storage import parse_metadata


@pytest.fixture(scope="module")
def tiny(randomise):
    """Traced in two seconds."""
    return randomise(
        create_model("swinv2_nano", window_size=2, depths=(2,), embed_dim=4, num_heads=(1,), num_classes=3)
    )


def test_a_file_is_checked_and_says_what_the_weights_say(tiny, tmp_path):
    preprocessing = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
    tiny.info = ModelInfo(classes=("cat", "dog", "käfer"), preprocessing=preprocessing)
    path = tmp_path / "model.onnx"
    exported = export(tiny, path, "onnx")
    assert exported.path == path
    assert exported.shapes == check_shapes(tiny.config)
    assert 0 < exported.difference < 1e-5
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert parse_metadata("model.onnx", said) == (tiny.config, tiny.info)
    assert json.loads(said["classes"])[2] == "käfer"


def test_inputs_of_the_check_stand_on_both_sides_of_the_window():
    config = create_model("swinv2_nano", window_size=8, num_classes=0).config
    assert check_shapes(config) == ((1, 3, 23, 23), (2, 3, 23, 67), (1, 3, 65, 67))


def test_the_difference_is_seen(tiny, randomise):
    shapes = check_shapes(tiny.config)
    other = randomise(
        create_model("swinv2_nano", window_size=2, depths=(2,), embed_dim=4, num_heads=(1,), num_classes=3), 1
    )
    with torch.no_grad():
        assert largest_difference(lambda x: [tiny.eval()(x)], tiny, shapes) == 0
    assert largest_difference(lambda x: [other(x)], tiny, shapes) > 0.1
    assert largest_difference(lambda x: [tiny(x) * math.nan], tiny, shapes) == math.inf


def test_a_file_that_differs_is_not_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(TOLERANCE, torch.float32, -1.0)
    path = tmp_path / "model.pt2"
    path.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"differs from the model by .* and was not kept"):
        export(tiny, path, "pt2")
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_exported_is_refused_in_one_sentence(tiny, tmp_path, monkeypatch):
    def refused(sentence, model=tiny, name="model.onnx", format="onnx"):
        with pytest.raises(ValueError, match=sentence):
            export(model, tmp_path / name, format)

    refused("no export format 'onxn' .the nearest is 'onnx'.: use pt2 or onnx", format="onxn")
    refused("does not end in .onnx", name="model.bin")
    small = create_model("swinv2_nano", window_size=2, depths=(1,), embed_dim=4, num_heads=(1,))
    refused("the weights are torch.bfloat16, which onnx files of ours do not hold", model=small.bfloat16())
    with torch.device("meta"):
        giant = create_model("swinv2_giant")
    refused("the weights take 12.0 GB, but one onnx file holds 2.1 GB: export pt2", model=giant)
    missing = dataclasses.replace(FORMATS["onnx"], packages=("no_such_package",))
    monkeypatch.setitem(FORMATS, "onnx", missing)
    refused(r"no_such_package is missing: install it with pip install 'swinv2\[export\]'")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_noticed_before_writing(tmp_path):
    check_room(tmp_path / "model.pt2", 1)
    with pytest.raises(OSError, match=r"GB left, but the file takes about 1152921504\.61 GB"):
        check_room(tmp_path / "model.pt2", 2**60)


@pytest.mark.slow
@pytest.mark.parametrize("window", [8, 16])
@pytest.mark.parametrize("format", FORMATS)
def test_tiny_at_real_sizes(window, format, randomise, tmp_path):
    model = randomise(create_model("swinv2_tiny", window_size=window)).eval()
    path = tmp_path / f"model.{format}"
    export(model, path, format)
    shapes = [(1, 3, 256, 256), (2, 3, 224, 320), (1, 3, 333, 250)]
    assert largest_difference(FORMATS[format].open(path), model, shapes) < 1e-5

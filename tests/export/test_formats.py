"""Files of both formats: at every size, of standard operators, with what the weights say of themselves."""

import onnx
import pytest
import torch

from swinv2.export.formats import FORMATS
from swinv2.export.program import trace

SAID = {"classes": '["owl", "käfer"]', "preprocessing": "null"}
CASES = [("pt2", "v2"), ("onnx", "v2")]
SLOW = ("v2_window4", "v1_headless", "v2_video", "v1_video_headless", "signal", "backbone")


@pytest.mark.parametrize(
    ("format", "name"), [*CASES, *(pytest.param("onnx", name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_files_are_right_at_every_size(format, name, small, check, tmp_path):
    model = small(name)
    path, traced = tmp_path / f"model.{format}", trace(model)
    FORMATS[format].write(traced, path, SAID)
    check(FORMATS[format].open(path), model, 1e-5)
    METADATA[format](path)
    if format == "onnx":
        graph = onnx.load(path)
        onnx.checker.check_model(graph)
        assert {node.domain for node in graph.graph.node} == {""}, "standard operators only"
        assert not graph.functions
        assert [output.name for output in graph.graph.output] == list(traced.outputs)
        (given,) = graph.graph.input
        names = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
        assert names == ["batch", model.config.in_channels, *("frames", "height", "width")[-model.config.ndim :]]
        assert b"site-packages" not in path.read_bytes(), "no path of this machine"


def pt2_metadata(path):
    found = dict.fromkeys(SAID, "")
    torch.export.load(path, extra_files=found)
    assert {key: value if isinstance(value, str) else value.decode() for key, value in found.items()} == SAID


def onnx_metadata(path):
    assert SAID.items() <= {entry.key: entry.value for entry in onnx.load(path).metadata_props}.items()


METADATA = {"pt2": pt2_metadata, "onnx": onnx_metadata}

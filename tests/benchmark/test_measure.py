"""Profile by part, the operator, the peers, and the machine."""

import pytest
import torch
import torch.nn.functional as F

from swinv2.benchmark.attention import Case, benchmark_attention
from swinv2.benchmark.machine import Ceilings, describe, exponentials, matmul_flops
from swinv2.benchmark.parts import linear_floor, part_of, time_by_part
from swinv2.benchmark.peers import build_peer
from swinv2.benchmark.report import markdown, number
from swinv2.model import create_model

CPU = torch.device("cpu")
CEILINGS = Ceilings({"fp32": 1e11}, 1e10, 1e9)
TINY = {"embed_dim": 32, "depths": (1, 2), "num_heads": (1, 2), "num_classes": 5}


@pytest.mark.parametrize(
    ("operator", "part"),
    [
        ("mkldnn::_linear_pointwise", "linear"),
        ("aten::addmm", "linear"),
        ("aten::mkldnn_convolution", "linear"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::bmm", "attention"),
        ("aten::native_layer_norm", "norms"),
        ("aten::linalg_vector_norm", "norms"),
        ("aten::gelu", "GELU"),
        ("aten::index_select", "gather and index"),
        ("aten::roll", "gather and index"),
        ("aten::copy_", "casts and copies"),
        ("aten::add_", "element-wise"),
        ("aten::empty", "other"),
    ],
)
def test_operators_belong_to_parts(operator: str, part: str) -> None:
    assert part_of(operator) == part


def test_the_longest_part_comes_first() -> None:
    weight, x = torch.randn(512, 512), torch.randn(512, 512)
    parts = time_by_part(lambda: F.gelu(F.linear(x, weight).add(F.linear(x, weight)))[:1], CPU)
    assert parts[0].name == "linear"
    assert {"linear", "GELU", "element-wise"} <= {part.name for part in parts}
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert all(part.seconds > 0 for part in parts)


def test_products_alone_take_no_longer_than_many_more_of_them() -> None:
    config = create_model("swinv2_nano", **TINY).config
    few, many = (linear_floor(config, (side, side), 1, CPU, torch.float32) for side in (32, 256))
    assert 0 < few < many


def test_the_operator_is_set_against_the_ceilings() -> None:
    case = Case((8, 8), (4, 4), heads=2, batch=2, head_dim=8, dtype="fp32", direction="training")
    good, refused = benchmark_attention(case, ["sequential", "triton"], CEILINGS, CPU, rounds=2)
    assert good.seconds is not None
    tokens = 2 * 64
    moved = 4 * 16 * tokens * (3 + 1 + 3 + 1 + 3)  # forward: qkv, output; backward: qkv, gradient of output, of qkv
    assert good.bandwidth == pytest.approx(moved / good.seconds / 1e10)
    assert good.flops == pytest.approx((2 + 5) * 2 * tokens * 16 * 16 / good.seconds / 1e11)
    assert refused.seconds is None
    assert "triton" in refused.error


@pytest.mark.parametrize(("field", "value"), [("dtype", "int8"), ("direction", "sideways")])
def test_an_impossible_case_is_refused(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is '{value}'"):
        Case((8, 8), (4, 4), heads=1, **{field: value})


@pytest.mark.parametrize("library", ["timm", "transformers", "torchvision"])
def test_a_peer_computes_the_same(library: str, randomise) -> None:
    pytest.importorskip(library)
    model = randomise(create_model("swinv2_nano", window_size=4, image_size=32, **TINY)).eval()
    peer = build_peer(library, model, (32, 32))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected, found = model(x), peer(x)
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_a_peer_at_another_window_than_trained(randomise) -> None:
    pytest.importorskip("timm")
    model = create_model("swinv2_nano", window_size=8, trained_window_size=((4, 4), (4, 4)), **TINY)
    model = randomise(model).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = model(x), build_peer("timm", model, (64, 64))(x)
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_a_model_that_no_peer_has_is_refused() -> None:
    model = create_model("swinv2_nano", window_size=8, image_size=64, **TINY)
    with pytest.raises(ValueError, match=r"torchvision pads maps that are smaller than the window.* of window 8"):
        build_peer("torchvision", create_model("swinv2_nano", window_size=8, image_size=32, **TINY), (32, 32))
    with pytest.raises(ValueError, match=r"'tim' is no library .*'timm'"):
        build_peer("tim", model, (64, 64))
    with pytest.raises(ValueError, match="only V2 models of images"):
        build_peer("timm", create_model("swin_tiny"), (224, 224))


def test_the_machine_is_described_and_measured(one_thread: None) -> None:
    found = describe(CPU)
    assert found["threads"] == 1
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert 1e8 < matmul_flops(CPU, torch.float32, size=256) < 1e13
    assert 1e7 < exponentials(CPU) < 1e12


def test_numbers_and_tables() -> None:
    assert [number(value) for value in (None, 0, 0.01234, 1.0, 123.4, 98765.0)] == [
        "-",
        "0",
        "0.0123",
        "1.00",
        "123",
        "98765",
    ]
    assert markdown(["", "a|b"], [["x", 1]]) == "|  | a/b |\n|---|---:|\n| x | 1 |"

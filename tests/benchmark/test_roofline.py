import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from swinv2.benchmark.machine import Ceilings
from swinv2.benchmark.roofline import Linear, Work, attention, attention_backward, floor, linears, work
from swinv2.model import create_model
from swinv2.ops import window_attention

TINY = {"embed_dim": 16, "depths": (1, 2), "num_heads": (2, 4)}
CEILINGS = Ceilings({"fp32": 1e9}, 1e8, 1e6)


def counted(run) -> int:
    """By PyTorch's counter, which does not know oneDNN's fused layers."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "size", "window"),
    [("swinv2_nano", (64, 96), 8), ("swin_tiny", (56, 56), 7), ("swinv2_video_nano", (4, 64, 64), (2, 8, 8))],
)
def test_operations_are_those_that_pytorch_counts(name: str, size: tuple[int, ...], window) -> None:
    model = create_model(name, window_size=window, image_size=size, **TINY).eval()
    model.set_attention_backend("reference")
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        model(x)  # the bias tables are kept from here on
    parts = work(model.config, size, 2).values()
    assert sum(part.flops for part in parts) == counted(lambda: model(x))


@pytest.mark.parametrize("grid", [(16, 16), (13, 10), (5, 20)])
def test_attention_counts_every_place_of_the_windows(grid: tuple[int, int]) -> None:
    qkv, bias = torch.randn(2, *grid, 3, 2, 8), torch.randn(2, 15, 15)
    run = lambda: window_attention(qkv, bias, (8, 8), (0, 0), backend="reference")  # noqa: E731
    assert attention(grid, (8, 8), heads=2, head_dim=8, batch=2).flops == counted(run)


def test_bytes_and_exponentials_of_attention_by_hand() -> None:
    once = attention((16, 16), (8, 8), heads=2, head_dim=8, batch=3)
    tokens, width = 3 * 256, 16
    assert once.elements == 3 * tokens * width + tokens * width
    assert once.exponentials == tokens * 64 * 2
    back = attention_backward((16, 16), (8, 8), heads=2, head_dim=8, batch=3)
    assert back.elements == (3 + 1 + 3) * tokens * width
    assert back.flops == 5 * 2 * tokens * 64 * width


def test_weights_are_the_model_s() -> None:
    model = create_model("swinv2_nano", **TINY)
    named = [(name, p) for name, p in model.named_parameters() if p.ndim > 1 and "position_bias" not in name]
    matrices = sum(p.numel() for name, p in named if name.endswith("weight"))
    assert sum(layer.count * layer.inputs * layer.outputs for layer in linears(model.config, (64, 64), 1)) == matrices


def test_bytes_of_linear_layers_by_hand() -> None:
    assert Linear(1, "fc1", 10, 4, 8, count=3).work == Work(flops=3 * 640, elements=3 * (40 + 80 + 32))
    assert Linear(1, "fc2", 10, 8, 4, residual=True).work.elements == 80 + 40 + 40 + 32


def test_the_floor_is_the_longest_of_three_times() -> None:
    assert Work(flops=10**9, elements=1).floor(CEILINGS, "fp32", 4) == (1.0, "operations")
    assert Work(flops=1, elements=10**8).floor(CEILINGS, "fp32", 4) == (4.0, "bytes")
    assert Work(exponentials=10**6, flops=1).floor(CEILINGS, "fp32", 4) == (1.0, "exponentials")


def test_the_floor_of_a_model_is_the_sum_over_its_parts() -> None:
    config = create_model("swinv2_nano", **TINY).config
    parts = work(config, (64, 64), 2)
    assert list(parts) == [(0, "linear"), (1, "linear"), (1, "attention"), (2, "linear"), (2, "attention")]
    seconds = [max(w.flops / 1e9, 4 * w.elements / 1e8, w.exponentials / 1e6) for w in parts.values()]
    assert floor(config, (64, 64), 2, CEILINGS, "fp32", 4) == pytest.approx(sum(seconds))

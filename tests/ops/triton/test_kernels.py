"""What is the Triton backend's own: tiles, workspace, determinism, refusals. The operator's tests are
tests/ops/test_window_attention.py; on the CPU, test_interpreter.py runs both."""

import os
import subprocess
import sys

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from swinv2.ops import window_attention
from swinv2.ops.dispatch import BACKENDS, Call, choose
from swinv2.ops.reference import reference_attention
from swinv2.ops.triton import tiles
from swinv2.ops.triton.tiles import Problem

INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture
def gpu(device):
    """A device on which kernels run in this process."""
    if device == "cpu" and not INTERPRETS:
        pytest.skip("without TRITON_INTERPRET=1 kernels need a GPU; test_interpreter.py sets it")
    return device


def inputs(grid, window, device, dtype=torch.float32, batch=1, heads=2, head_dim=16):
    g = torch.Generator().manual_seed(0)
    qkv = torch.randn(batch, *grid, 3, heads, head_dim, generator=g).to(dtype)
    bias = 3 * torch.randn(heads, *(2 * w - 1 for w in window), generator=g)
    scale = 5 + 20 * torch.rand(heads, generator=g)
    return [x.to(device).requires_grad_() for x in (qkv, bias, scale)]


def gradients(attention, leaves, window, shift):
    """Result and gradients, by name."""
    qkv, bias, scale = leaves
    out = attention(qkv, bias, window, shift, scale)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return dict(zip(("out", "qkv", "bias", "scale"), (out, *torch.autograd.grad(out, leaves, upstream)), strict=True))


def fused(qkv, bias, window, shift, scale):
    return window_attention(qkv, bias, window, shift, scale, "triton")


def compare(leaves, window, shift, tolerance):
    """Errors against fp64; where sums cancel (the scale's gradient), up to thrice those of the oracle in fp32."""
    got = gradients(fused, leaves, window, shift)
    plain = gradients(reference_attention, leaves, window, shift)
    want = gradients(reference_attention, [x.detach().double().requires_grad_() for x in leaves], window, shift)
    for name, expected in want.items():
        size = expected.square().mean().sqrt()
        error, floor = ((x[name].double() - expected).square().mean().sqrt() / size for x in (got, plain))
        assert error <= max(tolerance, 3 * floor), f"{name}: {error:.2e}"


@pytest.mark.parametrize(
    ("grid", "window", "shift"), [((9, 7), (4, 4), (2, 2)), ((6, 7), (5, 5), (2, 2)), ((3, 5, 4), (2, 4, 4), (1, 2, 2))]
)
def test_whole_window_kernels_are_exact_in_fp32(grid, window, shift, gpu, monkeypatch):
    """The table keeps them for half precision, which would hide small mistakes."""
    if gpu == "cuda":
        pytest.skip("fp32 takes more registers than whole windows leave")
    monkeypatch.setitem(tiles.WHOLE_WINDOW, 4, {32: 64, 64: 64})
    leaves = inputs(grid, window, gpu)
    assert Problem.of(tuple(leaves[0].shape), torch.float32, window, shift).whole
    compare(leaves, window, shift, 5e-6)


@pytest.mark.parametrize("head_dim", [24, 64])
def test_any_head_dim_up_to_the_tables(head_dim, gpu):
    compare(inputs((4, 6), (4, 4), gpu, head_dim=head_dim), (4, 4), (2, 2), 5e-6)


def test_one_chunk_of_windows_or_many(gpu, monkeypatch):
    """Few programs, each with many windows; and few heads at once."""
    monkeypatch.setattr(tiles, "PROGRAMS", 1)
    monkeypatch.setattr(tiles, "PAIR_BYTES", 1)
    leaves = inputs((5, 7), (4, 4), gpu, heads=3)
    problem = Problem.of(tuple(leaves[0].shape), torch.float32, (4, 4), (2, 2))
    assert (problem.pair_chunks, problem.pair_heads) == ((problem.windows, 1), 1)
    compare(leaves, (4, 4), (2, 2), 5e-6)
    compare([x.detach().half().requires_grad_() if x.ndim > 3 else x for x in leaves], (4, 4), (2, 2), 2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_place_is_written_and_results_repeat(dtype, gpu, monkeypatch):
    """Deterministic mode fills new tensors with NaN, and refuses what is not deterministic."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    leaves = inputs((5, 7), (4, 4), gpu, dtype)
    plain = gradients(fused, leaves, (4, 4), (2, 2))
    torch.use_deterministic_algorithms(True)
    try:
        poisoned = gradients(fused, leaves, (4, 4), (2, 2))
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in plain.items():
        assert value.isfinite().all()
        assert torch.equal(value, poisoned[name]), name


def test_runs_under_checkpointing(gpu):
    leaves = inputs((4, 6), (4, 4), gpu, torch.float16)
    kept = gradients(lambda *a: checkpoint(fused, *a, use_reentrant=False), leaves, (4, 4), (2, 2))
    for name, value in gradients(fused, leaves, (4, 4), (2, 2)).items():
        assert torch.equal(kept[name], value), name


def test_a_frozen_bias_costs_no_workspace(gpu):
    qkv, bias, scale = inputs((4, 6), (4, 4), gpu)
    fused(qkv, bias.detach(), (4, 4), (2, 2), scale).sum().backward()
    want = gradients(fused, (qkv, bias, scale), (4, 4), (2, 2))
    assert bias.grad is None
    assert qkv.grad.shape == want["qkv"].shape


@pytest.mark.slow
@pytest.mark.parametrize("window", [(32, 33), (4, 12, 12)])
def test_large_windows(window, gpu):
    grid = tuple(w + 1 for w in window) if len(window) == 3 else window
    compare(inputs(grid, window, gpu, heads=1), window, tuple(w // 2 for w in window), 5e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "mps"}, "it needs an NVIDIA GPU, and qkv is on mps"),
        ({"dtype": torch.float64}, "it computes in fp32, bf16 and fp16, and qkv is torch.float64"),
        ({"head_dim": 192}, "its tiles hold a head_dim of 128 at most in torch.bfloat16, not 192"),
        ({"head_dim": 96, "dtype": torch.float32}, "a head_dim of 64 at most in torch.float32, not 96"),
        ({"window": (2, 2, 2, 2)}, "it handles 3 axes at most, and the window has 4"),
        ({"exporting": True}, "an exported graph may not hold"),
        ({"capability": (7, 5)}, "compute capability 8.0 or newer, and this GPU has 7.5"),
    ],
)
def test_refuses_in_one_sentence(change, reason, monkeypatch):
    monkeypatch.setattr("swinv2.ops.dispatch._has_triton", lambda: True)
    monkeypatch.setattr("swinv2.ops.dispatch._triton_interprets", lambda: False)
    call = {"device": "cuda", "dtype": torch.bfloat16, "window": (8, 8), "head_dim": 32}
    with pytest.raises(ValueError, match=reason):
        choose(Call(**{**call, **change}), "triton")
    assert choose(Call(**{**call, **change})) != "triton"


def test_operators_import_without_triton():
    code = "import sys; sys.modules['triton'] = None; import swinv2.ops, swinv2; assert swinv2.ops.window_attention"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((8, 64, 64, 3, 3, 32), (8, 8)),  # 256 px, stage 1
        ((128, 64, 64, 3, 4, 32), (8, 8)),
        ((8, 16, 16, 3, 24, 32), (16, 16)),
        ((1, 96, 96, 3, 4, 32), (48, 48)),
        ((1, 64, 64, 3, 16, 32), (64, 64)),
        ((1, 16, 48, 48, 3, 4, 32), (8, 24, 24)),
    ],
)
def test_workspace_is_bounded(shape, window):
    """Beside 4 bytes a token and head twice, at most the pairs' budget, or the pairs of one head and of its chunks."""
    workspace = BACKENDS["triton"].workspace(Call("cuda", torch.bfloat16, window, 32, True, shape=shape))
    problem = Problem.of(shape, torch.bfloat16, window, (0,) * len(window))
    assert 0 < workspace - 8 * problem.heads * problem.tokens <= 2 * tiles.PAIR_BYTES


@pytest.mark.parametrize("bias_grad", [True, False])
@pytest.mark.parametrize(("grid", "window"), [((9, 7), (4, 4)), ((7, 10), (7, 10))])
def test_workspace_is_what_is_stated(grid, window, bias_grad, gpu):
    """Counted over the backward pass of the operator: what it makes beside its results."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from swinv2.ops.triton import operator

    class Made(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made = func.overloadpacket in (torch.ops.aten.empty, torch.ops.aten.new_empty, torch.ops.aten.sum)
            self.bytes += out.untyped_storage().nbytes() if made else 0
            return out

    qkv, bias, scale = (x.detach() for x in inputs(grid, window, gpu, torch.float16))
    shift = [w // 2 for w in window]
    out, lse = operator.forward(qkv, bias, list(window), shift, scale)
    with Made() as made:
        operator.backward(out, qkv, bias, list(window), shift, scale, out, lse, bias_grad)
    stated = Problem.of(tuple(qkv.shape), qkv.dtype, window, tuple(shift)).workspace - lse.untyped_storage().nbytes()
    made.bytes -= scale.untyped_storage().nbytes()  # a result
    assert made.bytes == stated if bias_grad else made.bytes < stated

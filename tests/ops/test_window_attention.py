"""Every backend against the fp64 oracle: forward and all gradients, through one tester."""

import itertools

import pytest
import torch

from swinv2.ops import explain, window_attention
from swinv2.ops.dispatch import BACKENDS, RULES, Call, choose
from swinv2.ops.reference import reference_attention

FAST = [name for name in BACKENDS if name != "reference"]
CASES = [  # grid, window, shift
    ((8,), (4,), (2,)),
    ((10,), (8,), (4,)),
    ((17,), (8,), (7,)),  # padding longer than window - shift: two border windows
    ((8, 8), (4, 4), (0, 0)),
    ((8, 8), (4, 4), (2, 2)),
    ((10, 7), (4, 3), (2, 1)),
    ((5, 11), (8, 4), (4, 2)),  # window larger than the map on one axis
    ((3, 3), (7, 7), (3, 3)),
    ((6, 5), (1, 1), (0, 0)),
    ((1, 1), (2, 2), (1, 1)),
    ((4, 9, 6), (2, 4, 3), (1, 2, 1)),
    ((3, 9, 10), (8, 4, 5), (4, 2, 2)),
    ((1, 9, 10), (1, 4, 5), (0, 2, 2)),  # a leading axis of size 1
]
# Largest RMS error over RMS value, against fp64 on the same (rounded) input.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}


def make_inputs(grid, window, cosine, dtype=torch.float64, batch=2, heads=2, head_dim=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    qkv = torch.randn(batch, *grid, 3, heads, head_dim, generator=g, dtype=torch.float64)
    bias = 3 * torch.randn(heads, *(2 * w - 1 for w in window), generator=g, dtype=torch.float64)
    scale = 5 + 20 * torch.rand(heads, generator=g, dtype=torch.float64) if cosine else None
    grad = torch.randn(batch, *grid, heads, head_dim, generator=g, dtype=torch.float64)
    wide = torch.promote_types(dtype, torch.float32)
    return qkv.to(dtype), bias.to(wide), None if scale is None else scale.to(wide), grad.to(dtype)


def run(attention, qkv, bias, scale, grad, window, shift):
    inputs = [x.detach().clone().requires_grad_() for x in (qkv, bias, scale) if x is not None]
    out = attention(inputs[0], inputs[1], window, shift, inputs[2] if scale is not None else None)
    grads = torch.autograd.grad(out, inputs, grad)
    return dict(zip(("out", "qkv", "bias", "scale"), (out.detach(), *grads), strict=False))


def check(backend, grid, window, shift, cosine, dtype, device="cpu", **shape):
    qkv, bias, scale, grad = (
        x if x is None else x.to(device) for x in make_inputs(grid, window, cosine, dtype, **shape)
    )
    got = run(lambda *a: window_attention(*a, backend=backend), qkv, bias, scale, grad, window, shift)
    wide = [None if x is None else x.double() for x in (qkv, bias, scale, grad)]
    want = run(reference_attention, *wide, window, shift)
    assert got["out"].dtype == got["qkv"].dtype == dtype
    for name, expected in want.items():
        actual = got[name].double()
        error = (actual - expected).square().mean().sqrt() / expected.square().mean().sqrt().clamp_min(1e-30)
        assert error <= TOLERANCE[dtype], f"{name}: {error:.2e}"


@pytest.mark.parametrize("cosine", [True, False], ids=["cosine", "dot"])
@pytest.mark.parametrize(("grid", "window", "shift"), CASES)
@pytest.mark.parametrize("backend", FAST)
def test_equals_the_oracle_in_fp64(backend, grid, window, shift, cosine, device):
    check(backend, grid, window, shift, cosine, torch.float64, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("grid", "window", "shift"), CASES[::3])
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_is_accurate_in_each_dtype(backend, grid, window, shift, dtype, device):
    check(backend, grid, window, shift, True, dtype, device, head_dim=32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_extreme_logits(backend, dtype):
    """Zero vectors, norms of 1e4 and the scale at its clamp of 100, together: finite, and as accurate as elsewhere."""
    grid, window, shift = (9, 9), (4, 4), (2, 2)
    qkv, bias, scale, grad = make_inputs(grid, window, True, dtype, head_dim=32)
    qkv[:, ::2, :, :2] *= 1e4 / qkv[:, ::2, :, :2].float().norm(dim=-1, keepdim=True).to(dtype)
    qkv[:, 1, 1, :2] = 0
    scale.fill_(100.0)
    got = run(lambda *a: window_attention(*a, backend=backend), qkv, bias, scale, grad, window, shift)
    assert all(x.isfinite().all() for name, x in got.items() if name != "qkv")
    want = reference_attention(qkv.double(), bias.double(), window, shift, scale.double())
    error = (got["out"].double() - want).square().mean().sqrt() / want.square().mean().sqrt()
    assert error <= {torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}[dtype]


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("grid", [(10, 10), (10,), (3, 10, 9)])
def test_padding_is_invisible_and_the_roll_leaks_nothing(backend, grid):
    """Traps 1 and 2. A row belongs to windows of its own side only, and what lies beyond the map has no say."""
    window, shift = (8,) * len(grid), (4,) * len(grid)
    qkv, bias, scale, _ = make_inputs(grid, window, True)
    last = len(grid)
    before = window_attention(qkv, bias, window, shift, scale, backend)
    changed = qkv.clone()
    changed.select(last, 0).normal_(generator=torch.Generator().manual_seed(1))
    after = window_attention(changed, bias, window, shift, scale, backend)
    rows = (before != after).movedim(last, 0).flatten(1).any(1)
    assert rows.nonzero().flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("backend", FAST)
def test_masks_are_true_under_extreme_scores(backend):
    """Trap 3: with scores spanning +-100, adding -100 would let the other region through; here it has no weight at
    all."""
    window, shift = (8,), (4,)
    qkv = torch.zeros(1, 12, 3, 1, 4)
    qkv[..., 0, 0, 0] = 1.0
    qkv[:, :4, 1, 0, 0], qkv[:, 4:, 1, 0, 0] = (
        -1.0,
        1.0,
    )  # the far end's keys agree with every query, the near end's oppose
    qkv[:, 4:, 2] = 1e6
    bias = torch.zeros(1, 15)
    out = window_attention(qkv, bias, window, shift, torch.tensor([100.0]), backend)
    assert out[:, :4].abs().max() == 0


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_result_does_not_depend_on_batch_or_memory_layout(backend):
    grid, window, shift = (9, 10), (4, 4), (2, 2)
    qkv, bias, scale, _ = make_inputs(grid, window, True, torch.float32, batch=3)
    whole = window_attention(qkv, bias, window, shift, scale, backend)
    one = torch.cat([window_attention(x[None], bias, window, shift, scale, backend) for x in qkv])
    torch.testing.assert_close(whole, one, rtol=1e-5, atol=1e-6)
    strided = qkv.movedim(1, -1).contiguous().movedim(-1, 1)
    assert not strided.is_contiguous()
    torch.testing.assert_close(window_attention(strided, bias, window, shift, scale, backend), whole)
    expanded = qkv[:1].expand(2, *qkv.shape[1:])
    torch.testing.assert_close(window_attention(expanded, bias, window, shift, scale, backend)[1], whole[0])


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_an_empty_batch_gives_an_empty_result(backend):
    qkv, bias, scale, _ = make_inputs((8, 8), (4, 4), True)
    assert window_attention(qkv[:0], bias, (4, 4), (2, 2), scale, backend).shape == (0, 8, 8, 2, 8)


def test_chunks_change_nothing(monkeypatch):
    from swinv2.ops import sequential

    monkeypatch.setattr(sequential, "SCORE_BYTES", 1)
    check("sequential", (10, 7), (4, 3), (2, 1), True, torch.float64)


@pytest.mark.parametrize("backend", FAST)
def test_autocast_does_not_reach_inside(backend):
    qkv, bias, scale, _ = make_inputs((8, 8), (4, 4), True, torch.float32)
    plain = window_attention(qkv, bias, (4, 4), (2, 2), scale, backend)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(window_attention(qkv, bias, (4, 4), (2, 2), scale, backend), plain)


def test_sequential_is_a_lawful_custom_operator():
    qkv, bias, scale, _ = make_inputs((5, 6), (4, 4), True, torch.float32)
    inputs = [x.requires_grad_() for x in (qkv, bias, scale)]
    arguments = (inputs[0], inputs[1], [4, 4], [2, 2], inputs[2])
    torch.library.opcheck(torch.ops.swinv2.sequential_attention.default, arguments)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_compiles_to_one_graph(dynamic, grad):
    torch._dynamo.reset()
    compiled = torch.compile(window_attention, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for grid in ((8, 8), (9, 12)):
        qkv, bias, scale, upstream = make_inputs(grid, (4, 4), True, torch.float32)
        if grad:
            got, want = (run(f, qkv, bias, scale, upstream, (4, 4), (2, 2)) for f in (compiled, window_attention))
            for name in want:
                torch.testing.assert_close(got[name], want[name])
        else:
            want = window_attention(qkv, bias, (4, 4), (2, 2), scale)
            torch.testing.assert_close(compiled(qkv, bias, (4, 4), (2, 2), scale), want)


def test_memory_stays_far_below_one_mask_per_window(monkeypatch):
    """w16 on a 128 x 128 map: 64 windows x 256 x 256 fp32 scores would be 16.8 MB a head; chunks hold a fraction."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from swinv2.ops import sequential

    monkeypatch.setattr(sequential, "SCORE_BYTES", 2**20)

    class Largest(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                if isinstance(x, torch.Tensor):
                    self.bytes = max(self.bytes, x.untyped_storage().nbytes())
            return out

    qkv, bias, scale, grad = make_inputs((128, 128), (16, 16), True, torch.float32, batch=1, heads=1, head_dim=4)
    with Largest() as largest:
        run(lambda *a: window_attention(*a, backend="sequential"), qkv, bias, scale, grad, (16, 16), (8, 8))
    assert largest.bytes <= 2 * 2**20


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"qkv": torch.zeros(1, 8, 8, 2, 2, 8)}, r"needs \[B, \*grid, 3, heads, head_dim\]"),
        (
            {"bias": torch.zeros(2, 7, 5)},
            r"bias has shape \(2, 7, 5\), but window \(4, 4\) needs a table of \(2, 7, 7\)",
        ),
        ({"logit_scale": torch.zeros(3)}, r"logit_scale has shape \(3,\)"),
        ({"shift": (4, 0)}, r"shift \(4, 0\) must be at least 0 and below window"),
        ({"shift": (1,)}, "shift"),
        ({"backend": "sdap"}, r"no attention backend 'sdap' \(the nearest is 'sdpa'\)"),
        ({"bias": torch.zeros(2, 7, 7, device="meta")}, "bias is on meta, but qkv is on cpu"),
    ],
)
def test_bad_calls_are_refused_in_one_sentence(change, sentence):
    call = {
        "qkv": torch.zeros(1, 8, 8, 3, 2, 8),
        "bias": torch.zeros(2, 7, 7),
        "window": (4, 4),
        "shift": (0, 0),
        "logit_scale": torch.ones(2),
    }
    with pytest.raises(ValueError, match=sentence):
        window_attention(**{**call, **change})


def test_the_choice_explains_itself():
    qkv = torch.zeros(1, 8, 8, 3, 2, 8)
    bias = torch.zeros(2, 7, 7)
    assert explain(qkv, bias, (4, 4)).startswith("sdpa: picked, because")
    text = explain(qkv.requires_grad_(), bias, (4, 4))
    assert text.startswith("sequential: picked, because on the CPU")
    assert all(name in text for name in BACKENDS)


def test_some_rule_serves_every_call():
    for device, dtype, grad, compiling, exporting in itertools.product(
        ("cpu", "cuda", "mps"), TOLERANCE, (False, True), (False, True), (False, True)
    ):
        call = Call(device, dtype, (8, 8), 32, grad, compiling, exporting)
        assert choose(call) in BACKENDS
    assert RULES[-1].applies(call)


def test_a_backend_that_cannot_run_says_why(monkeypatch):
    from swinv2.ops import dispatch

    refusing = dispatch.Backend(reference_attention, lambda call: "it needs a CUDA device")
    monkeypatch.setitem(dispatch.BACKENDS, "fused", refusing)
    with pytest.raises(ValueError, match="'fused' cannot run here: it needs a CUDA device; use 'auto'"):
        window_attention(torch.zeros(1, 8, 8, 3, 2, 8), torch.zeros(2, 7, 7), (4, 4), (0, 0), backend="fused")

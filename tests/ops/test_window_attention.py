"""Every backend against the fp64 oracle: forward and all gradients, through one tester."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from swinv2.benchmark.memory import usage
from swinv2.ops import explain, sequential, window_attention
from swinv2.ops.dispatch import BACKENDS, RULES, Call, choose
from swinv2.ops.reference import reference_attention
from swinv2.ops.windows import _kept, expand_bias, reduce_bias


def refusal(backend, device, dtype=torch.float32):
    return BACKENDS[backend].refuses(Call(device, dtype, (8, 8), 32, True))


DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
HERE = [name for name in BACKENDS if any(refusal(name, device) is None for device in DEVICES)]
# Triton's interpreter takes about 10 ms for a tile: there most of this file is a sweep.
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name == "triton")) for name in HERE]
FAST = [param for param in EVERY if param.values != ("reference",)]
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
    ((10, 11), (10, 8), (5, 4)),  # more tokens than a tile of keys holds
]
ARGUMENTS = {"backend", "device", "dtype"}
# Largest RMS error over RMS value, against fp64 on the same (rounded) input. Values below 0.1 count as 0.1, and those
# of a window of one token below 1 as 1: its scores have no gradient but rounding of terms of that size, which cancel.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}


@pytest.fixture(autouse=True)
def backend_runs(request):
    """Skip what a backend refuses: Triton needs a GPU or its interpreter, and has no fp64."""
    arguments = {name: request.getfixturevalue(name) for name in ARGUMENTS & {*request.fixturenames}}
    if arguments.get("backend") in BACKENDS:
        reason = refusal(arguments["backend"], arguments.get("device", "cpu"), arguments.get("dtype", torch.float32))
        if reason is not None:
            pytest.skip(reason)


def make_inputs(grid, window, cosine, dtype=torch.float64, device="cpu", batch=2, heads=2, head_dim=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    qkv = torch.randn(batch, *grid, 3, heads, head_dim, generator=g, dtype=torch.float64)
    bias = 3 * torch.randn(heads, *(2 * w - 1 for w in window), generator=g, dtype=torch.float64)
    scale = 5 + 20 * torch.rand(heads, generator=g, dtype=torch.float64) if cosine else None
    grad = torch.randn(batch, *grid, heads, head_dim, generator=g, dtype=torch.float64)
    wide = torch.promote_types(dtype, torch.float32)
    inputs = qkv.to(dtype), bias.to(wide), None if scale is None else scale.to(wide), grad.to(dtype)
    return tuple(x if x is None else x.to(device) for x in inputs)


def widest(backend):
    """The dtype that shows a backend's errors best."""
    return torch.float32 if backend == "triton" else torch.float64


def run(attention, qkv, bias, scale, grad, window, shift):
    inputs = [x.detach().clone().requires_grad_() for x in (qkv, bias, scale) if x is not None]
    out = attention(inputs[0], inputs[1], window, shift, inputs[2] if scale is not None else None)
    grads = torch.autograd.grad(out, inputs, grad)
    return dict(zip(("out", "qkv", "bias", "scale"), (out.detach(), *grads), strict=False))


def check(backend, grid, window, shift, cosine, dtype, device="cpu", budget_mb=None, **shape):
    qkv, bias, scale, grad = make_inputs(grid, window, cosine, dtype, device, **shape)
    got = run(
        lambda *a: window_attention(*a, backend=backend, budget_mb=budget_mb), qkv, bias, scale, grad, window, shift
    )
    wide = [None if x is None else x.double() for x in (qkv, bias, scale, grad)]
    want = run(reference_attention, *wide, window, shift)
    assert got["out"].dtype == got["qkv"].dtype == dtype
    least = 1.0 if set(window) == {1} else 0.1
    for name, expected in want.items():
        actual = got[name].double()
        error = (actual - expected).square().mean().sqrt() / expected.square().mean().sqrt().clamp_min(least)
        doubt = 2 if name == "scale" else 1  # a sum over all pairs, most of which cancel
        assert error <= doubt * TOLERANCE[dtype], f"{name}: {error:.2e}"


@pytest.mark.parametrize("cosine", [True, False], ids=["cosine", "dot"])
@pytest.mark.parametrize(("grid", "window", "shift"), CASES)
@pytest.mark.parametrize("backend", FAST)
def test_equals_the_oracle(backend, grid, window, shift, cosine, device):
    check(backend, grid, window, shift, cosine, widest(backend), device)


@pytest.mark.parametrize("cosine", [True, False], ids=["cosine", "dot"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("grid", "window", "shift"), CASES[::3])
@pytest.mark.parametrize("backend", EVERY)
def test_is_accurate_in_each_dtype(backend, grid, window, shift, dtype, cosine, device):
    check(backend, grid, window, shift, cosine, dtype, device, head_dim=32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", HERE)
def test_extreme_logits(backend, dtype, device):
    """Zero vectors, norms of 1e4 and the scale at its clamp of 100, together: finite, and as accurate as elsewhere."""
    grid, window, shift = (9, 9), (4, 4), (2, 2)
    qkv, bias, scale, grad = make_inputs(grid, window, True, dtype, device, head_dim=32)
    qkv[:, ::2, :, :2] *= 1e4 / qkv[:, ::2, :, :2].float().norm(dim=-1, keepdim=True).to(dtype)
    qkv[:, 1, 1, :2] = 0  # its gradient is that of x / 1e-6, beyond what fp16 can hold
    scale.fill_(100.0)
    got = run(lambda *a: window_attention(*a, backend=backend), qkv, bias, scale, grad, window, shift)
    assert all(x.isfinite().all() for name, x in got.items() if name != "qkv" or dtype != torch.float16)
    want = reference_attention(qkv.double(), bias.double(), window, shift, scale.double())
    error = (got["out"].double() - want).square().mean().sqrt() / want.square().mean().sqrt()
    assert error <= {torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}[dtype]


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("grid", [(10, 10), (10,), (3, 10, 9)])
def test_padding_is_invisible_and_the_roll_leaks_nothing(backend, grid, device):
    """Traps 1 and 2. A row belongs to windows of its own side only, and what lies beyond the map has no say."""
    window, shift = (8,) * len(grid), (4,) * len(grid)
    qkv, bias, scale, _ = make_inputs(grid, window, True, widest(backend), device, batch=1)
    last = len(grid)
    before = window_attention(qkv, bias, window, shift, scale, backend)
    changed = qkv.clone()
    changed.select(last, 0).neg_()
    after = window_attention(changed, bias, window, shift, scale, backend)
    rows = (before != after).movedim(last, 0).flatten(1).any(1)
    assert rows.nonzero().flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("backend", EVERY)
def test_masks_are_true_under_extreme_scores(backend, device):
    """Trap 3: scores span +-100, so a mask of -100 would leave the far end half the weight; it must have none."""
    window, shift = (8,), (4,)
    qkv = torch.zeros(1, 16, 3, 1, 4, device=device)
    qkv[..., 0, 0, 0] = 1.0  # the last window holds tokens 12 to 15, and 0 to 3 that the roll brought there
    qkv[:, :12, 1, 0, 0], qkv[:, 12:, 1, 0, 0] = -1.0, 1.0  # the far end agrees with every query, the near end opposes
    qkv[:, 12:, 2] = 1e6
    out = window_attention(qkv, qkv.new_zeros(1, 15), window, shift, qkv.new_tensor([100.0]), backend)
    assert out[:, :4].abs().max() == 0


@pytest.mark.parametrize("backend", EVERY)
def test_padding_borrows_nothing_from_other_images(backend, device):
    """An infinite token spoils the windows it stands in, and no other image."""
    grid, window, shift = (9, 9), (4, 4), (2, 2)
    qkv, bias, scale, grad = make_inputs(grid, window, True, torch.float32, device)
    clean = run(lambda *a: window_attention(*a, backend=backend), qkv, bias, scale, grad, window, shift)
    qkv[0, 0, 0] = torch.inf
    spoilt = run(lambda *a: window_attention(*a, backend=backend), qkv, bias, scale, grad, window, shift)
    assert not spoilt["out"][0].isfinite().all()
    for name in ("out", "qkv"):
        torch.testing.assert_close(spoilt[name][1], clean[name][1])


def peers_attention(qkv, bias, scale):
    """One window as timm, transformers and torchvision compute it, every step in the input's dtype."""
    q, k, v = qkv.flatten(1, -4).movedim(2, 0).transpose(-2, -3)
    logits = torch.nn.functional.normalize(q, dim=-1) @ torch.nn.functional.normalize(k, dim=-1).mT
    logits = logits * scale.to(qkv.dtype).view(-1, 1, 1) + bias.to(qkv.dtype)
    return (logits.softmax(-1) @ v).transpose(1, 2).reshape(qkv.shape[:-3] + qkv.shape[-2:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", EVERY)
def test_no_backend_is_less_accurate_than_the_peers(backend, dtype, device):
    window = (8, 8)
    qkv, bias, scale, _ = make_inputs(window, window, True, dtype, device, batch=8, heads=3, head_dim=32)
    want = reference_attention(qkv.double(), bias.double(), window, (0, 0), scale.double())
    ours = window_attention(qkv, bias, window, (0, 0), scale, backend).double() - want
    theirs = peers_attention(qkv, expand_bias(bias, window, window), scale).double() - want
    assert ours.square().mean().sqrt() <= 1.05 * theirs.square().mean().sqrt()


@pytest.mark.parametrize("backend", EVERY)
def test_result_does_not_depend_on_batch_or_memory_layout(backend, device):
    grid, window, shift = (9, 10), (4, 4), (2, 2)
    qkv, bias, scale, _ = make_inputs(grid, window, True, torch.float32, device, batch=3)
    whole = window_attention(qkv, bias, window, shift, scale, backend)
    one = torch.cat([window_attention(x[None], bias, window, shift, scale, backend) for x in qkv])
    torch.testing.assert_close(whole, one, rtol=1e-5, atol=1e-6)
    strided = qkv.movedim(1, -1).contiguous().movedim(-1, 1)
    assert not strided.is_contiguous()
    torch.testing.assert_close(window_attention(strided, bias, window, shift, scale, backend), whole)
    expanded = qkv[:1].expand(2, *qkv.shape[1:])
    torch.testing.assert_close(window_attention(expanded, bias, window, shift, scale, backend)[1], whole[0])


@pytest.mark.parametrize("backend", EVERY)
def test_an_empty_batch_gives_an_empty_result(backend, device):
    qkv, bias, scale, _ = make_inputs((8, 8), (4, 4), True, widest(backend), device)
    bias.requires_grad_()
    out = window_attention(qkv[:0], bias, (4, 4), (2, 2), scale, backend)
    assert out.shape == (0, 8, 8, 2, 8)
    out.sum().backward()
    assert bias.grad.abs().max() == 0  # a gradient, if of nothing: DDP waits for one


@pytest.mark.parametrize("budget_mb", [1e-6, 2e-3, 8e-3, 0.03])
@pytest.mark.parametrize("cosine", [True, False], ids=["cosine", "dot"])
@pytest.mark.parametrize(("grid", "window", "shift"), CASES[3:])
def test_pieces_change_nothing(grid, window, shift, cosine, budget_mb):
    """Down to a row of queries of one head; 10 x 11 tokens at window 10 x 8 have all kinds of cuts here."""
    check("sequential", grid, window, shift, cosine, torch.float64, heads=3, budget_mb=budget_mb)


@pytest.mark.parametrize("backend", EVERY)
def test_autocast_does_not_reach_inside(backend, device):
    inputs = make_inputs((8, 8), (4, 4), True, torch.float32, device)

    def both():
        return run(lambda *a: window_attention(*a, backend=backend), *inputs, (4, 4), (2, 2))

    plain = both()
    with torch.autocast(device, torch.bfloat16):
        cast = both()
    for name in ("out", "qkv") if backend in ("sequential", "triton") else ("out",):  # other backwards are PyTorch's
        assert torch.equal(cast[name], plain[name]), name


@pytest.mark.parametrize("backend", EVERY)
def test_fake_tensors_leave_nothing_behind(backend):
    """A memory planner runs the operator on fake tensors; a real call of the same shape must not meet them."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    qkv, bias, scale, _ = make_inputs((7, 9), (4, 4), True, torch.float32)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(x) for x in (qkv, bias, scale)]
        fake = window_attention(fakes[0], fakes[1], (4, 4), (2, 2), fakes[2], backend)
    real = window_attention(qkv, bias, (4, 4), (2, 2), scale, backend)
    assert type(real) is torch.Tensor
    assert (fake.shape, fake.dtype) == (real.shape, real.dtype)


@pytest.mark.parametrize("backend", [name for name in HERE if name in ("sequential", "triton")])
def test_our_own_operators_are_lawful(backend, device):
    qkv, bias, scale, _ = make_inputs((5, 6), (4, 4), True, torch.float32, device, batch=1, heads=1)
    window_attention(qkv, bias, (4, 4), (2, 2), scale, backend)  # registers it
    inputs = [x.requires_grad_() for x in (qkv, bias, scale)]
    arguments = (inputs[0], inputs[1], [4, 4], [2, 2], inputs[2])
    torch.library.opcheck(getattr(torch.ops.swinv2, f"{backend}_attention").default, arguments)


def test_the_backward_of_sequential_attention_is_lawful():
    qkv, bias, scale, grad = make_inputs((5, 6), (4, 4), True, torch.float32, batch=1)
    bias = bias.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # heads last in memory, as log-CPB gives it
    window_attention(qkv, bias, (4, 4), (2, 2), scale, "sequential")  # registers it
    backward = torch.ops.swinv2.sequential_attention_backward.default
    torch.library.opcheck(backward, (grad, qkv, bias, [4, 4], [2, 2], scale, 0))


@pytest.mark.parametrize("backend", ["auto", *(param for param in EVERY if param.values == ("triton",))])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_compiles_to_one_graph(dynamic, grad, backend, device):
    torch._dynamo.reset()
    compiled = torch.compile(window_attention, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for grid in ((8, 8), (9, 12)):
        qkv, bias, scale, upstream = make_inputs(grid, (4, 4), True, torch.float32, device, batch=1)
        if grad:
            both = [lambda *a, f=f: f(*a, backend=backend) for f in (compiled, window_attention)]
            got, want = (run(f, qkv, bias, scale, upstream, (4, 4), (2, 2)) for f in both)
            for name in want:
                torch.testing.assert_close(got[name], want[name])
        else:
            want = window_attention(qkv, bias, (4, 4), (2, 2), scale, backend)
            torch.testing.assert_close(compiled(qkv, bias, (4, 4), (2, 2), scale, backend), want)


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return out


def test_sequential_holds_one_piece_of_scores():
    """w16 on a 128 x 128 map: 64 windows x 256 x 256 fp32 scores would be 16.8 MB a head; a piece here is 1 MiB."""
    qkv, bias, scale, grad = make_inputs((128, 128), (16, 16), True, torch.float32, batch=1, heads=1, head_dim=4)
    with Largest() as largest:  # the plain functions: a dispatch mode does not see inside an operator
        sequential.forward(qkv, bias, [16, 16], [8, 8], scale, 3 * 2**20)
        sequential.backward(grad, qkv, bias, [16, 16], [8, 8], scale, 6 * 2**20)
    assert 2**18 <= largest.bytes <= 2 * 2**20


WORKSPACES = [  # grid, window, heads, batch, budget in MiB
    ((64, 64), (8, 8), 3, 2, None),
    ((60, 60), (16, 16), 6, 1, None),
    ((48, 48), (24, 24), 12, 1, 12),
    ((48, 48), (48, 48), 4, 1, 12),
    ((24, 24), (12, 12), 24, 1, 2),
    ((8, 16, 16), (4, 8, 8), 4, 1, 6),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("grid", "window", "heads", "batch", "budget_mb"), WORKSPACES)
def test_stated_workspace_is_what_is_taken(grid, window, heads, batch, budget_mb, dtype):
    """Most bytes live beside inputs and results: not above what is stated, and that not above twice what is taken."""
    budget, shift = int((budget_mb or 0) * 2**20), tuple(w // 2 for w in window)
    qkv, bias, scale, grad = make_inputs(grid, window, True, dtype, heads=heads, batch=batch, head_dim=32)
    _kept.clear()
    passes = {
        "forward": (lambda: sequential.forward(qkv, bias, window, shift, scale, budget), grad.nbytes),
        "backward": (lambda: sequential.backward(grad, qkv, bias, window, shift, scale, budget), qkv.nbytes),
    }
    stated = BACKENDS["sequential"].workspace(Call("cpu", dtype, window, 32, shape=tuple(qkv.shape), budget=budget))
    with torch.no_grad():
        taken = max(usage(run, torch.device("cpu")).peak - result for run, result in passes.values())
    assert taken <= stated <= 2 * taken
    assert budget == 0 or stated <= budget


def test_a_budget_chooses_sequential_and_only_it_has_one():
    qkv, bias, scale, _ = make_inputs((8, 8), (4, 4), True, torch.float32)
    assert explain(qkv, bias, (4, 4), budget_mb=1).startswith("sequential: picked, because a budget")
    with pytest.raises(ValueError, match="'sdpa' keeps to no budget of memory: use 'sequential'"):
        window_attention(qkv, bias, (4, 4), (2, 2), scale, "sdpa", budget_mb=1)
    for wrong in (0, -1, float("nan"), float("inf"), "64", True):
        with pytest.raises(ValueError, match=r"budget_mb is .* but must be a positive number of MiB, or None"):
            window_attention(qkv, bias, (4, 4), (2, 2), scale, budget_mb=wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_without_hardware_is_more_accurate(dtype, monkeypatch):
    qkv, bias, scale, _ = make_inputs((10, 11), (8, 8), True, dtype, head_dim=32)
    want = reference_attention(qkv.double(), bias.double(), (8, 8), (4, 4), scale.double())
    errors = []
    for emulated in (True, False):
        for module in ("sequential", "chunks"):
            monkeypatch.setattr(f"swinv2.ops.{module}.is_emulated", lambda device, dtype, e=emulated: e)
        out = window_attention(qkv, bias, (8, 8), (4, 4), scale, "sequential")
        errors.append(float((out.double() - want).norm() / want.norm()))
    assert out.dtype == dtype
    assert errors[0] < errors[1]


def test_sdpa_in_evaluation_holds_masks_of_one_window():
    qkv, bias, scale, _ = make_inputs((128, 128), (16, 16), True, torch.float32, batch=1, heads=1, head_dim=4)
    with Largest() as largest, torch.no_grad():
        window_attention(qkv, bias, (16, 16), (8, 8), scale, "sdpa")
    assert 2**18 <= largest.bytes <= 2 * 2**20


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
        ({"qkv": torch.zeros(1, 8, 8, 3, 2, 8, dtype=torch.int32)}, "must be floating point"),
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
    text = explain(torch.zeros(1, 8, 8, 3, 2, 8), torch.zeros(2, 7, 7), (4, 4))
    assert text.startswith("sequential: picked, because its chunks")
    assert all(f"{name}: " in text for name in BACKENDS)


@pytest.mark.parametrize(
    ("circumstances", "picked"),
    [
        ({}, "sequential"),
        ({"device": "cuda"}, "sdpa"),
        ({"device": "cuda", "compiling": True}, "sequential"),
        ({"device": "cuda", "exporting": True}, "padded"),
        ({"device": "cuda", "dtype": torch.float64}, "sdpa"),
        ({"device": "cuda", "capability": (7, 5)}, "sdpa"),
        ({"compiling": True}, "sequential"),
        ({"compiling": True, "exporting": True}, "padded"),
    ],
)
def test_what_auto_picks(circumstances, picked, monkeypatch):
    monkeypatch.setattr("swinv2.ops.dispatch._has_triton", lambda: True)
    call = {"device": "cpu", "dtype": torch.float32, "window": (8, 8), "head_dim": 32}
    assert choose(Call(**{**call, **circumstances})) == picked


def test_exporting_refuses_our_own_operator():
    with pytest.raises(ValueError, match="'sequential' cannot run here"):
        choose(Call("cpu", torch.float32, (8, 8), 32, False, True, True), "sequential")


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


@pytest.mark.parametrize(
    ("window", "run_window"), [((4,), (4,)), ((4, 3), (2, 3)), ((3, 4, 2), (3, 2, 2)), ((7, 5), (7, 5))]
)
def test_bias_of_some_rows(window, run_window):
    """Rows of queries of `expand_bias`, entry by entry, and `reduce_bias` as its transpose."""
    table = torch.randn(2, *(2 * w - 1 for w in window), dtype=torch.float64)
    places = list(itertools.product(*map(range, run_window)))
    centre = [w - 1 for w in window]
    for first, count in ((0, run_window[0]), (run_window[0] - 1, 1), (0, 1)):
        queries = [place for place in places if first <= place[0] < first + count]
        got = expand_bias(table, window, run_window, first, count)
        assert got.shape == (2, len(queries), len(places))
        for (i, q), (j, k) in itertools.product(enumerate(queries), enumerate(places)):
            offset = [a - b + c for a, b, c in zip(q, k, centre, strict=True)]
            assert torch.equal(got[:, i, j], table[(slice(None), *offset)])
        upstream = torch.randn_like(got)
        assert torch.allclose((got * upstream).sum(), (table * reduce_bias(upstream, window, run_window, first)).sum())

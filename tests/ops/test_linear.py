import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swinv2
from swinv2.ops.linear import linear, onednn_serves


def operands(dtype, shape=(2, 5, 7, 24)):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    weight, bias = torch.randn(40, shape[-1], generator=generator), torch.randn(40, generator=generator)
    return tuple(tensor.to(dtype) for tensor in (x, weight, bias))


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float16])
@pytest.mark.parametrize("features", [24, 192, 768])
def test_no_less_accurate_than_pytorchs(features, dtype, with_bias, gelu):
    x, weight, bias = operands(dtype, (2, 5, 7, features))
    bias = bias if with_bias else None
    activate = F.gelu if gelu else lambda y: y
    exact = activate(F.linear(x.double(), weight.double(), None if bias is None else bias.double()))
    with torch.no_grad():
        got, plain = linear(x, weight, bias, gelu), activate(F.linear(x, weight, bias))
    errors = [float((y.double() - exact).norm() / exact.norm()) for y in (got, plain)]
    assert got.dtype == dtype
    assert errors[0] <= 1.05 * errors[1] + 1e-8
    assert errors[0] > 0 or dtype == torch.float64


def test_which_calls_onednn_takes():
    x, weight, bias = operands(torch.float32)
    assert not onednn_serves(x, weight)  # gradients
    with torch.no_grad():
        assert onednn_serves(x, weight) == torch.backends.mkldnn.is_available()
        assert not onednn_serves(x[:0], weight)
        assert not onednn_serves(x.double(), weight.double())
        assert not onednn_serves(x.to("meta"), weight.to("meta"))
        with torch.autocast("cpu", torch.bfloat16):
            assert not onednn_serves(x, weight)
            assert linear(x, weight, bias).dtype == torch.bfloat16
    assert linear(x[:0], weight, bias).shape == (0, 5, 7, 40)


@pytest.mark.parametrize("layout", ["transposed", "expanded", "sliced"])
def test_inputs_of_any_layout(layout):
    x, weight, bias = operands(torch.float32, (6, 4, 24))
    x = {"transposed": x.transpose(0, 1), "expanded": x[:1].expand(3, -1, -1), "sliced": x[::2, 1:]}[layout]
    with torch.no_grad():
        assert torch.allclose(linear(x, weight, bias), F.linear(x, weight, bias), atol=1e-5)


def test_what_others_put_around_a_layer_is_seen(randomise):
    """LoRA and quantisation replace linear layers, and hooks look at their results: none of them is skipped."""
    model = randomise(swinv2.create_model("swinv2_nano", num_classes=3)).eval()
    x = torch.randn(1, 3, 32, 32)
    mlp = model.stages[0].blocks[0].mlp.body
    with torch.no_grad():
        before = model(x)
        seen = []
        handle = mlp.fc1.register_forward_hook(lambda module, inputs, output: seen.append(output))
        assert torch.allclose(model(x), before, atol=1e-5)
        assert len(seen) == 1
        handle.remove()
        mlp.fc1 = nn.Sequential(mlp.fc1, nn.Hardtanh(-0.1, 0.1))
        assert not torch.allclose(model(x), before, atol=1e-3)


def test_gradients_are_those_of_pytorch():
    x, weight, bias = (tensor.requires_grad_() for tensor in operands(torch.float64))
    assert torch.autograd.gradcheck(lambda *a: linear(*a, True), (x[:1, :1, :2], weight, bias))


@pytest.mark.parametrize("emulated", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_under_autocast(dtype, emulated, monkeypatch):
    """Where half precision is slow the layer computes in fp32: no less accurate than PyTorch's, and the same dtypes."""
    monkeypatch.setattr("swinv2.ops.linear.is_emulated", lambda device, dtype: emulated and dtype.itemsize == 2)
    x, weight, bias = (tensor.requires_grad_() for tensor in operands(torch.float32, (6, 48)))
    upstream = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    exact = torch.autograd.grad(
        F.gelu(F.linear(x.double(), weight.double(), bias.double())), (x, weight, bias), upstream.double()
    )
    with torch.autocast("cpu", dtype):
        outputs = [linear(x, weight, bias, gelu=True), F.gelu(F.linear(x, weight, bias))]
    assert outputs[0].dtype == outputs[1].dtype == dtype
    ours, plain = (torch.autograd.grad(y, (x, weight, bias), upstream.to(dtype)) for y in outputs)
    for got, theirs, want in zip(ours, plain, exact, strict=True):
        assert got.dtype == torch.float32
        errors = [float((g - want).norm() / want.norm()) for g in (got, theirs)]
        assert errors[0] <= 1.1 * errors[1]


def test_half_precision_without_hardware_is_multiplied_in_fp32(monkeypatch):
    monkeypatch.setattr("swinv2.ops.linear.is_emulated", lambda device, dtype: dtype == torch.bfloat16)
    x, weight, bias = operands(torch.bfloat16)
    want = F.gelu(F.linear(x.float(), weight.float(), bias.float())).bfloat16()
    with torch.no_grad():
        assert torch.equal(linear(x, weight, bias, gelu=True), want)
    compiled = torch.compile(linear, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x, weight, bias, True).float(), want.float(), rtol=1e-2)

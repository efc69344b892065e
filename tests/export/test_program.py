"""One graph serves every size: against the model itself."""

import pytest
import torch

from swinv2.export.program import trace, twin
from swinv2.model.position_bias import ContinuousBias

QUICK = ("v2", "v1_headless", "v2_video")
SLOW = ("v2_window4", "v1_video_headless", "signal", "backbone")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_one_graph_is_right_at_every_size(name, small, check):
    model = small(name)
    program = trace(model).program
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    on_sizes = {"<built-in function " + word for word in ("add>", "mul>", "sub>", "floordiv>", "getitem>")}
    foreign = {target for target in called - on_sizes if not target.startswith("aten.")}
    assert all("sym_min" in target for target in foreign), foreign
    assert not any("stack_trace" in node.meta for node in program.graph.nodes)
    assert not any("mlp" in key and "position_bias" in key for key in program.state_dict), "the bias is computed"
    module = program.module()

    def run(x):
        with torch.no_grad():
            out = module(x)
        return [out] if isinstance(out, torch.Tensor) else out

    check(run, model, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype, small, check):
    model = small("v2").to(dtype)
    module = trace(model).program.module()
    x = torch.randn(3, 3, 70, 45).to(dtype)
    with torch.no_grad():
        got, want = module(x), model(x)
    assert got.dtype == dtype
    assert (got - want).abs().max() / want.abs().max() <= {torch.float64: 1e-13, torch.bfloat16: 0.02}[dtype]


def test_a_twin_leaves_the_model_alone(small):
    model = small("v2").train()
    model.freeze_stages(1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    copied = twin(model)
    assert not copied.training
    assert model.training
    assert model.frozen_stages == 1
    assert any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    pairs = zip(copied.parameters(), model.parameters(), strict=True)
    assert all(a is not b and a.data_ptr() == b.data_ptr() for a, b in pairs), "weights are shared, not copied"
    assert isinstance(model.stages[0].blocks[0].attention.body.position_bias, ContinuousBias)

import copy
import pickle

import pytest
import torch

from swinv2.config import SwinConfig
from swinv2.geometry import linear_coordinates, log_coordinates
from swinv2.model.position_bias import ContinuousBias, TableBias, make_position_bias

WINDOW = (4, 6)


def log_cpb(heads=3):
    torch.manual_seed(0)
    return ContinuousBias(WINDOW, WINDOW, heads, log_coordinates).eval()


@pytest.mark.parametrize(("kind", "coordinates"), [("log_cpb", log_coordinates), ("linear_cpb", linear_coordinates)])
def test_continuous_bias_is_16_sigmoid_of_the_network(kind, coordinates):
    config = SwinConfig(position_bias=kind, window_size=WINDOW, trained_window_size=((4, 4),) * 4)
    bias = make_position_bias(config, stage=1)
    want = 16 * torch.sigmoid(bias.mlp(coordinates(WINDOW, (4, 4)))).permute(2, 0, 1)
    torch.testing.assert_close(bias(), want)
    assert bias().shape == (6, 7, 11)


def test_a_larger_window_extrapolates_and_agrees_inside():
    small, large = log_cpb(), log_cpb()
    large.window = (6, 8)
    torch.testing.assert_close(large()[:, 2:-2, 2:-2], small())


def test_bias_network_runs_in_fp32_under_autocast_and_in_half_models():
    bias = log_cpb()
    plain = bias()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bias(), plain)
    half = copy.deepcopy(bias).bfloat16()()
    assert half.dtype == torch.float32
    rounded = copy.deepcopy(bias).bfloat16().float()()
    assert torch.equal(half, rounded)


def test_the_table_is_computed_once_in_evaluation(monkeypatch):
    bias = log_cpb()
    calls = []
    compute = ContinuousBias.compute
    monkeypatch.setattr(ContinuousBias, "compute", lambda self: calls.append(1) or compute(self))
    with torch.no_grad():
        assert bias() is bias()
    assert len(calls) == 1
    bias()  # gradients are on: nothing is kept or used
    assert len(calls) == 2


def _step(bias):
    optimiser = torch.optim.SGD(bias.parameters(), 0.1)
    with torch.enable_grad():
        bias().sum().backward()
    optimiser.step()


@pytest.mark.parametrize(
    "change",
    [
        _step,
        lambda bias: bias.mlp[2].weight.data.copy_(torch.ones_like(bias.mlp[2].weight)),  # raises no version
        lambda bias: setattr(bias.mlp[2].weight, "data", torch.ones_like(bias.mlp[2].weight)),
        lambda bias: torch.nn.init.ones_(bias.mlp[2].weight),
        lambda bias: bias.load_state_dict({k: v + 1 for k, v in bias.state_dict().items()}),
        lambda bias: bias.double(),
        lambda bias: setattr(bias.mlp[2], "weight", torch.nn.Parameter(torch.ones_like(bias.mlp[2].weight))),
    ],
    ids=["optimiser", "data copy", "data swap", "in place", "load", "dtype", "new parameter"],
)
def test_any_change_of_a_parameter_drops_the_table(change):
    bias = log_cpb()
    with torch.no_grad():
        stale = bias().clone()
        change(bias)
        fresh = bias()
        assert torch.equal(fresh, bias.compute())
        assert not torch.equal(fresh.to(stale.dtype), stale)


def test_train_drops_it_and_gradients_flow_in_evaluation_mode():
    """Trap 14: a table kept from a run without gradients must not serve one with them."""
    bias = log_cpb()
    with torch.inference_mode():
        bias()
    bias().sum().backward()
    assert bias.mlp[0].weight.grad.abs().sum() > 0
    bias.train()
    assert bias._kept is None


def test_a_table_made_in_inference_mode_serves_later_graphs():
    bias = log_cpb()
    with torch.inference_mode():
        assert not bias().is_inference()
    with torch.no_grad():
        table = bias()
    x = torch.ones_like(table, requires_grad=True)
    (x * table).sum().backward()
    assert torch.equal(x.grad, table)


def test_it_is_in_no_state_dict_copy_or_pickle():
    bias = log_cpb()
    with torch.no_grad():
        bias()
    assert bias._kept is not None
    assert set(bias.state_dict()) == {"mlp.0.weight", "mlp.0.bias", "mlp.2.weight"}
    assert copy.deepcopy(bias)._kept is None
    assert pickle.loads(pickle.dumps(bias))._kept is None


def test_models_built_in_inference_mode_work():
    with torch.inference_mode():
        bias = log_cpb()
        assert torch.equal(bias(), bias())


def test_fake_tensors_are_never_kept():
    from torch._subclasses.fake_tensor import FakeTensorMode

    bias = log_cpb()
    with torch.no_grad():
        with FakeTensorMode(allow_non_fake_inputs=True):
            bias()
        assert type(bias()) is torch.Tensor


def test_v1_table_is_the_parameter():
    bias = TableBias(WINDOW, 3)
    assert bias() is bias.table
    assert bias.table.shape == (3, 7, 11)

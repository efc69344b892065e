import pytest
import torch
from torch import Tensor, nn

from swinv2.benchmark.contenders import inference, memory, training
from swinv2.benchmark.memory import usage

CPU = torch.device("cpu")
MIB = 2**20


def mebibytes(count: int) -> Tensor:
    return torch.empty(count * MIB, dtype=torch.uint8).fill_(1)


def test_the_peak_is_what_was_live_at_once() -> None:
    def run() -> None:
        first, second = mebibytes(64), mebibytes(32)
        del first, second
        mebibytes(80)

    used = usage(run, CPU)
    assert (used.peak, used.left) == (96 * MIB, 0)
    if used.resident is not None:
        assert 0.9 * 64 * MIB < used.resident < 2 * 96 * MIB  # memory that lies unused in the process may serve 32


def test_what_stays_is_counted_and_what_was_there_is_not() -> None:
    kept = [mebibytes(16)]

    def run() -> None:
        kept.append(mebibytes(8))
        mebibytes(4)

    used = usage(run, CPU)
    assert (used.peak, used.left) == (12 * MIB, 8 * MIB)


def test_an_error_comes_through() -> None:
    def run() -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        usage(run, CPU)


def test_the_last_call_counts_with_what_the_others_left() -> None:
    state: list[Tensor] = []

    def step() -> None:
        if not state:
            state.extend((mebibytes(8), mebibytes(16)))
            mebibytes(50)
        elif len(state) == 2:
            state.pop()
        mebibytes(4)

    used = usage(step, CPU, calls=2)  # 24 MiB are left by the first call, of which the second lets 16 go
    assert (used.peak, used.left) == (24 * MIB, 8 * MIB)
    state.clear()
    assert usage(step, CPU, calls=3).peak == 12 * MIB


def test_a_forward_pass_holds_input_and_output_of_a_layer() -> None:
    model = nn.Sequential(nn.Linear(256, 1024, bias=False), nn.ReLU(inplace=True), nn.Linear(1024, 256, bias=False))
    x = torch.randn(512, 256)
    hidden, out = 512 * 1024 * 4, 512 * 256 * 4
    assert memory("inference", inference(model, x, torch.float32), CPU).peak == hidden + out


def test_a_training_step_holds_gradients_and_moments() -> None:
    """Weights are far larger than what else there is: one gradient and AdamW's two moments."""
    model = nn.Linear(1024, 1024, bias=False)
    used = memory("training", training(model, torch.randn(1, 1024), torch.float32), CPU)
    weights = 4 * 1024 * 1024
    assert 3 * weights <= used.peak < 3.1 * weights
    assert 2 * weights <= used.left < 2.1 * weights

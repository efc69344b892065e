import pytest
import torch
from torch._subclasses import FakeTensorMode

from swinv2.benchmark.roofline import attention, attention_backward
from swinv2.ops import window_attention
from swinv2.ops.dispatch import BACKENDS, Call
from swinv2.plan.recorder import Moment, Recorder

KIB = 1024


def peak(recorder: Recorder, counted: str = "as they come") -> Moment:
    return max((each.peaks[counted] for each in recorder.segments), key=lambda each: each.activations + each.workspace)


def test_a_storage_lives_as_long_as_something_refers_to_it() -> None:
    with FakeTensorMode(), Recorder("cpu", ()) as recorder:
        first = torch.empty(256)  # 1 KiB
        view = first.view(16, 16).t()
        second = first * 2
        del first  # the view holds it
        third = second + 1
        assert peak(recorder).activations == 3 * KIB
        del view, second, third
        fourth = torch.empty(700)
        assert peak(recorder).activations == 3 * KIB
        torch.empty(256)
    assert peak(recorder).activations == max(3 * KIB, 4 * (700 + 256))
    assert fourth.shape == (700,)


def test_cuda_gives_multiples_of_512_bytes() -> None:
    with Recorder("cuda", ()) as recorder:
        kept = [torch.empty(1, device="meta"), torch.empty(129, device="meta")]
    assert peak(recorder).activations == 512 + 1024
    assert len(kept) == 2


def test_weights_count_nothing_and_their_gradients_apart() -> None:
    with FakeTensorMode():
        weight = torch.nn.Parameter(torch.empty(16, 16))
        recorder = Recorder("cpu", [weight])
        weight.register_post_accumulate_grad_hook(lambda p: recorder.accumulated(p, 3))
        with recorder:
            out = torch.empty(16, 16) @ weight.t()
            recorder.enter(3, backward=True)
            out.backward(torch.empty(16, 16))
            recorder.enter(4, backward=True)
    moment = recorder.segments[-1].peaks["as they come"]
    assert (moment.gradients, moment.held) == (KIB, 0)
    assert recorder.segments[1].peaks["held"].held in (0, KIB)
    assert recorder.segments[0].peaks["elsewhere"].activations == 2 * KIB
    assert recorder.flops == {False: 2 * 16**3, True: 2 * 16**3}


@pytest.mark.parametrize("budget_mb", [None, 1.0])
def test_own_operators_state_their_workspace_and_work(budget_mb: float | None) -> None:
    shape, window = (2, 16, 16, 3, 2, 32), (8, 8)
    with FakeTensorMode(), Recorder("cpu", ()) as recorder:
        qkv, bias = torch.empty(shape, requires_grad=True), torch.empty(2, 15, 15, requires_grad=True)
        out = window_attention(qkv, bias, window, (4, 4), None, "sequential", budget_mb)
        recorder.enter(0, backward=True)
        out.sum().backward()
    call = Call("cpu", torch.float32, window, 32, shape=shape, budget=int((budget_mb or 0) * 2**20))
    stated = BACKENDS["sequential"].workspace
    assert stated is not None
    assert [segment.peaks["elsewhere"].workspace for segment in recorder.segments] == [stated(call)] * 2
    once, back = (work((16, 16), window, 2, 32, 2).flops for work in (attention, attention_backward))
    assert recorder.flops == {False: once, True: back}

import pytest
import torch
from torch import nn

from swinv2.data.labelled import Batch
from swinv2.tasks.inference import infer, rank


def test_rank_names_the_likeliest_classes_in_order() -> None:
    first, second = rank(torch.tensor([[0.0, 2.0, 1.0], [5.0, -5.0, 0.0]]), ["a", "b", "c"], top=2)
    assert [name for name, _ in first] == ["b", "c"]
    assert [name for name, _ in second] == ["a", "c"]
    assert first[0][1] == pytest.approx(torch.tensor([0.0, 2.0, 1.0]).softmax(0)[1].item())


def test_rank_of_a_single_class_is_certain() -> None:
    assert rank(torch.tensor([[-3.0]]), ["only"], top=5) == [[("only", 1.0)]]


def test_infer_uses_evaluation_mode_and_keeps_no_graph() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(4, 2)).train().bfloat16()
    """Images become the model's dtype."""
    images = torch.ones(3, 1, 2, 2)
    none = torch.empty(0, dtype=torch.long)
    batches = [Batch(images, none, torch.arange(3), ()), Batch(torch.empty(0), none, none, ("a.png: broken",))]
    (_, logits), (skipping, nothing) = infer(model, batches, torch.device("cpu"))
    expected = nn.functional.linear(images.flatten(1).bfloat16(), model[2].weight, model[2].bias)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    torch.testing.assert_close(logits, expected.float())
    assert skipping.skipped == ("a.png: broken",)
    assert len(nothing) == 0

"""Freezing, in the classifier and in the backbone."""

import copy
import pickle

import pytest
import torch
from torch import nn

import swinv2
from swinv2.model.features import SwinBackbone

FIELDS = {"embed_dim": 8, "depths": (2, 1, 2, 1), "num_heads": (1, 2, 2, 4), "window_size": 4}


def config(**overrides):
    return swinv2.SwinConfig(**{**FIELDS, "num_classes": 3, **overrides})


def images(*size, seed=0):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def without_gradient(model):
    return [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]


def frozen_and_free(kind, frozen, **overrides):
    """A model with frozen stages and its maps or logits as one vector."""
    torch.manual_seed(0)
    if kind == "classifier":
        model = swinv2.SwinTransformer(config(**overrides))
        model.freeze_stages(frozen)
    else:
        model = SwinBackbone(config(**overrides), (0, 1, 3), frozen_stages=frozen)
    run = (lambda x: model(x)) if kind == "classifier" else (lambda x: torch.cat([y.flatten() for y in model(x)]))
    return model, run


KINDS = pytest.mark.parametrize("kind", ["classifier", "backbone"])


@KINDS
@pytest.mark.parametrize("frozen", [0, 1, 2, 4])
def test_frozen_stages_stay_frozen(kind, frozen, randomise):
    model, run = frozen_and_free(kind, frozen, drop_path_rate=0.9)
    randomise(model).train()
    parts = [model.patch_embed, *model.stages[:frozen]] if frozen else []
    held = {id(p) for part in parts for p in part.parameters()}
    assert all(p.requires_grad != (id(p) in held) for p in model.parameters())
    assert not any(module.training for part in parts for module in part.modules())
    assert model.training
    assert all(stage.training for stage in model.stages[frozen:])
    for number, part in enumerate(parts):
        part.register_forward_hook(lambda _, args, out, n=number: ran.append((n, out.requires_grad, out.detach())))
    outputs = []
    for _ in range(2):
        ran = []
        run(images(32, 40)).sin().sum().backward()
        outputs.append(ran)
    assert [n for n, *_ in ran] == list(range(len(parts)))
    assert not any(recorded for _, recorded, _ in ran)
    assert all(torch.equal(a, b) for (*_, a), (*_, b) in zip(*outputs, strict=True)), "drop path is off"
    assert all(p.grad is None for p in model.parameters() if id(p) in held)
    assert all(p.grad is not None for p in model.parameters() if id(p) not in held)


def backward(model, run, x):
    """Outputs and every gradient there is."""
    model.zero_grad()
    out = run(x)
    out.sin().sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@KINDS
def test_freezing_changes_no_number_and_no_other_gradient(kind, randomise):
    model, run = frozen_and_free(kind, 0)
    randomise(model)
    out, gradients = backward(model, run, images(32, 40))
    model.freeze_stages(2)
    frozen_out, left = backward(model, run, images(32, 40))
    torch.testing.assert_close(frozen_out, out)
    assert left.keys() == {n for n in gradients if not n.startswith(("patch_embed.", "stages.0.", "stages.1."))}
    for name, gradient in left.items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-4, atol=1e-5)


@KINDS
def test_an_input_gets_its_gradient_through_frozen_stages(kind, randomise):
    model, run = frozen_and_free(kind, 0)
    randomise(model)
    gradients = []
    for frozen in (0, 2):
        model.freeze_stages(frozen)
        x = images(32, 40).requires_grad_()
        backward(model, run, x)
        gradients.append(x.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


@KINDS
def test_freezing_is_undone_by_freezing_less(kind, randomise):
    model, run = frozen_and_free(kind, 0)
    randomise(model)
    backward(model, run, images(64, 72))
    model.freeze_stages(3)
    assert model.frozen_stages == 3
    assert model.stages[2].blocks[0].mlp.body.fc1.weight.grad is None, "an optimiser would go on with an old gradient"
    model.freeze_stages(1)
    assert not model.stages[0].training
    assert model.stages[1].training
    model.freeze_stages(0)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())
    backward(model, run, images(64, 72))
    assert without_gradient(model) == []


def test_new_parameters_in_frozen_places_are_frozen_too():
    """Some loaders replace parameters by new ones, which require gradients."""
    model = SwinBackbone(config(), frozen_stages=1)
    model.stages[0].blocks[0].mlp.body.fc1.weight = nn.Parameter(torch.zeros(32, 8))
    model.train()
    assert not any(p.requires_grad for p in model.stages[0].parameters())


def test_a_backbone_freezes_what_it_is_told_to_whatever_its_model_had_frozen():
    model = swinv2.SwinTransformer(config())
    model.freeze_stages(3)
    backbone = SwinBackbone(model, (0, 3), frozen_stages=1)
    assert [not p.requires_grad for p in backbone.stages.parameters()].index(False) == len(
        [*model.stages[0].parameters()]
    )
    assert [stage.training for stage in backbone.stages] == [False, True, True, True]


@pytest.mark.parametrize("stages", [-1, 5, 1.5])
def test_stages_that_cannot_be_frozen_are_refused(stages):
    sentence = rf"{stages} stages cannot be frozen: this model has 0 to 4 of them"
    with pytest.raises(ValueError, match=sentence):
        swinv2.SwinTransformer(config()).freeze_stages(stages)
    with pytest.raises(ValueError, match=sentence):
        SwinBackbone(config(), (0, 3), frozen_stages=stages)
    with pytest.raises(ValueError, match="3 stages cannot be frozen: this model has 0 to 2 of them"):
        SwinBackbone(config(), (0, 1), frozen_stages=3)


def test_frozen_stages_compute_their_bias_once_and_are_not_run_twice(randomise):
    backbone = randomise(SwinBackbone(config(), (0, 3), frozen_stages=2)).train()
    backbone.set_checkpointing()
    calls = []
    for number in (0, 3):
        backbone.stages[number].blocks[0].attention.register_forward_hook(lambda *_, n=number: calls.append(n))
    tables = [stage.blocks[0].attention.body.position_bias for stage in backbone.stages]
    sum(x.sum() for x in backbone(images(32, 32))).backward()
    assert calls == [0, 3, 3], "checkpointing computes again only what is trained"
    first = tables[0]._kept
    assert first is not None
    backbone(images(32, 32))
    assert tables[0]._kept is first
    assert tables[3]._kept is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(copied, randomise):
    backbone = randomise(SwinBackbone(config(drop_path_rate=0.5), (0, 2), frozen_stages=1)).train()
    again = copied(backbone)
    assert all(
        torch.equal(a, b) for a, b in zip(backbone.eval()(images(32, 32)), again.eval()(images(32, 32)), strict=True)
    )
    again.train()
    assert [stage.training for stage in again.stages] == [False, True, True]
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in backbone.parameters()]
    assert again.feature_info.channels() == [8, 32]


def test_compiles_with_frozen_stages_without_a_graph_break(randomise):
    torch._dynamo.reset()
    backbone = randomise(
        SwinBackbone(config(depths=(1, 1), num_heads=(1, 2), drop_path_rate=0.1), (0, 1), frozen_stages=1)
    ).train()
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")

    def run(model, x):
        torch.manual_seed(0)
        return backward(backbone, lambda x: torch.cat([y.flatten() for y in model(x)]), x)

    (want, gradients), (got, compiled_gradients) = run(backbone, images(37, 24)), run(compiled, images(37, 24))
    torch.testing.assert_close(got, want)
    assert gradients.keys() == compiled_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled_gradients[name], gradient)


def test_exports_with_frozen_stages(randomise):
    backbone = randomise(SwinBackbone(config(depths=(1, 1), num_heads=(1, 2)), (0, 1), frozen_stages=1)).eval()
    exported = torch.export.export(backbone, (images(33, 24),)).module()
    torch.testing.assert_close(exported(images(33, 24)), backbone(images(33, 24)))

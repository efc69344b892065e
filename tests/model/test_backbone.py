import copy
import itertools

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import swinv2
from swinv2.config import VARIANTS
from swinv2.info import ModelInfo
from swinv2.model.block import Residual

TINY = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 5, "window_size": 4}


def small(name="swinv2_nano", **overrides):
    torch.manual_seed(0)
    return swinv2.create_model(name, **{**TINY, **overrides})


COUNTS = {  # counted on the reference definition, 1000 classes
    "swinv2_tiny": 28_347_154,
    "swinv2_small": 49_728_418,
    "swinv2_base": 87_918_816,
    "swinv2_large": 196_739_932,
    "swinv2_huge": 658_036_370,
    "swinv2_giant": 3_001_940_680,
    "swin_tiny": 28_288_354,
    "swin_small": 49_606_258,
    "swin_base": 87_768_224,
    "swin_large": 196_532_476,
    "swin_huge": 657_678_306,
    "swin_giant": 3_000_821_192,
}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts_to_the_digit(name, count):
    with torch.device("meta"):
        model = swinv2.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(("size", "count"), [("tiny", 28_158_070), ("small", 49_816_678), ("base", 88_048_984)])
def test_video_parameter_counts(size, count):
    with torch.device("meta"):
        model = swinv2.create_model(f"swin_video_{size}", num_classes=400)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(
    ("name", "stage", "blocks"), [("swinv2_huge", 2, {5, 11, 17}), ("swinv2_giant", 2, {5, 11, 17, 23, 29, 35, 41})]
)
def test_extra_norms_stand_at_the_end_of_every_sixth_block(name, stage, blocks):
    with torch.device("meta"):
        model = swinv2.create_model(name)
    found = {
        (i, j)
        for i, s in enumerate(model.stages)
        for j, block in enumerate(s.blocks)
        if isinstance(block.extra_norm, nn.LayerNorm)
    }
    assert found == {(stage, j) for j in blocks}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_runs_forward_and_backward_at_reduced_width(name, randomise):
    """The variant's own switches and axes, with few channels and blocks."""
    config = VARIANTS[name]
    overrides = {"embed_dim": 8, "depths": (2,) * config.num_stages, "num_heads": (1, 2, 2, 4), "num_classes": 3}
    model = randomise(swinv2.create_model(name, extra_norm_interval=config.extra_norm_interval and 2, **overrides))
    x = torch.randn(2, 3, *((3,) * (config.ndim - 2)), 33, 40)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if "mlp.2" not in name)
    maps = model.feature_maps(x)
    assert [m.shape[1] for m in maps] == list(model.config.dims)
    assert tuple(tuple(m.shape[2:]) for m in maps) == model.config.grids(tuple(x.shape[2:]))


SWITCHES = list(
    itertools.product(("pre", "sandwich", "post", "res_post"), ("dot", "cosine"), ("table", "linear_cpb", "log_cpb"))
)


@pytest.mark.parametrize(("norm", "score", "bias"), SWITCHES)
def test_every_combination_of_the_papers_switches_trains(norm, score, bias):
    model = small(norm_placement=norm, attention_score=score, position_bias=bias, drop_path_rate=0.1)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    x = torch.randn(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.arange(10) % 5
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("placement", "norms", "start"),
    [
        ("pre", {"norm_before"}, 1),
        ("sandwich", {"norm_before", "norm_branch"}, 0),
        ("post", {"norm_after"}, 1),
        ("res_post", {"norm_branch"}, 0),
    ],
)
def test_norm_placements(placement, norms, start):
    model = small(norm_placement=placement)
    residuals = [module for module in model.modules() if isinstance(module, Residual)]
    assert len(residuals) == 2 * 4
    for residual in residuals:
        assert {name for name, child in residual.named_children() if isinstance(child, nn.LayerNorm)} == norms
        last = {"pre": residual.norm_before, "post": residual.norm_after}.get(placement, residual.norm_branch)
        assert (last.weight == start).all()
    x = torch.randn(1, 4, 4, 16)
    identity = torch.equal(model.stages[0](x), x)
    assert identity == (placement in ("sandwich", "res_post"))


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (32, 32), (33, 47), (224, 20)])
def test_any_input_size(size):
    model = small(norm_placement="pre").eval()
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


def test_pixels_beyond_the_image_change_nothing_else(randomise):
    """Padding an image by hand with zeros to whole patches is what the model does itself."""
    model = randomise(small()).eval()
    x = torch.randn(1, 3, 30, 29)
    padded = nn.functional.pad(x, (0, 3, 0, 2))
    torch.testing.assert_close(model(x), model(padded))


def test_features_are_channels_last_views(randomise):
    model = randomise(small()).eval()
    x = torch.randn(2, 3, 32, 48)
    features = model.forward_features(x)
    assert features.shape == (2, model.num_features, 4, 6)
    for feature in (features, *model.feature_maps(x)):
        assert feature.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model.head(features.mean((2, 3))), model(x))
    assert model.strides == ((4, 4), (8, 8))


def test_a_head_is_replaced_by_a_fresh_one(randomise):
    model = randomise(small()).double()
    model.info = ModelInfo(classes=tuple("abcde"), source="timm")
    features = model.forward_features(x := torch.randn(2, 3, 32, 32, dtype=torch.float64))
    model.reset_head(7)
    assert model(x).shape == (2, 7)
    assert model.head.weight.dtype == torch.float64
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert not model.head.bias.any()
    assert (model.config.num_classes, model.info) == (7, ModelInfo(source="timm"))
    model.reset_head(0)
    assert torch.equal(model(x), features.flatten(2).mean(-1))


def test_a_model_without_a_head_gives_pooled_features():
    assert small(num_classes=0)(torch.randn(2, 3, 32, 32)).shape == (2, 32)


@pytest.mark.parametrize("axes", [1, 2])
def test_a_leading_axis_of_size_1_changes_nothing(axes, randomise):
    """The same weights as a model with one axis more: an image of one row, a clip of one frame."""
    window, size = ((3,) * axes,) * 2, (13, 9)[:axes]
    fields = {**TINY, "patch_size": (2,) * axes, "window_size": window}
    model = randomise(swinv2.SwinTransformer(swinv2.SwinConfig(**fields))).eval()
    fields |= {"patch_size": (1, *(2,) * axes), "merge_size": (1, *(2,) * axes), "window_size": ((2, *window[0]),) * 2}
    wider = swinv2.SwinTransformer(swinv2.SwinConfig(**fields)).eval()
    state = model.state_dict()
    state["patch_embed.projection.weight"] = state["patch_embed.projection.weight"].unsqueeze(2)
    for name in state:
        if name.endswith("position_bias.mlp.0.weight"):
            state[name] = nn.functional.pad(state[name], (1, 0))  # the new axis has no say
    wider.load_state_dict(state)
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(wider(x.unsqueeze(2)), model(x))


def test_checkpointing_changes_no_number(randomise):
    model = randomise(small(drop_path_rate=0.5)).train()
    x = torch.randn(4, 3, 32, 32)

    calls = []
    model.stages[0].blocks[0].attention.register_forward_hook(lambda *_: calls.append(1))

    def run(enabled):
        model.set_checkpointing(enabled)
        model.zero_grad()
        torch.manual_seed(1)
        out = model(x)
        out.square().sum().backward()
        return [out, *(p.grad.clone() for p in model.parameters())]

    plain = run(False)
    assert len(calls) == 1
    assert all(torch.equal(a, b) for a, b in zip(plain, run(True), strict=True))
    assert len(calls) == 3, "the backward pass computes the block again"


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    from swinv2.model.block import DropPath

    drop = DropPath(0.25)
    x = torch.ones(4000, 2, 3)
    out = drop(x)
    per_sample = out.flatten(1)
    assert ((per_sample == 0).all(1) | (per_sample == 1 / 0.75).all(1)).all()
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert drop.eval()(x) is x


def test_drop_path_rates_rise_linearly_over_all_blocks():
    model = swinv2.create_model("swinv2_nano", drop_path_rate=0.7)
    rates = [block.attention.drop_path.rate for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])


@pytest.mark.parametrize("backend", ["auto", "sdpa", "sequential", "reference"])
def test_backends_agree_on_a_whole_model(backend, randomise, device):
    model = randomise(small()).double().to(device)
    x = torch.randn(2, 3, 40, 52, dtype=torch.float64, device=device)
    model.set_attention_backend("reference")
    want = model(x)
    model.set_attention_backend(backend)
    torch.testing.assert_close(model(x), want, rtol=1e-10, atol=1e-12)


def test_backends_by_stage(randomise):
    """The first stage sequential in a small budget, the second not: no number changes."""
    model = randomise(small()).double()
    x = torch.randn(2, 3, 40, 52, dtype=torch.float64)
    want = model(x)
    model.set_attention_backend("sdpa")
    model.set_attention_backend("sequential", stages=(0,), budget_mb=0.01)
    chosen = [{(b.attention.body.backend, b.attention.body.budget_mb) for b in stage.blocks} for stage in model.stages]
    assert chosen == [{("sequential", 0.01)}, {("sdpa", None)}]
    torch.testing.assert_close(model(x), want, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="There is no stage 9: this model has stages 0 to"):
        model.set_attention_backend("sdpa", stages=[9])
    with pytest.raises(ValueError, match="no attention backend 'sequental'"):
        model.set_attention_backend("sequental")
    with pytest.raises(ValueError, match="'sdpa' keeps to no budget"):
        model.set_attention_backend("sdpa", budget_mb=4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_without_hardware(dtype, randomise, monkeypatch):
    """A model in half precision, and its gradients under autocast, where the CPU emulates it: nearer to fp64."""
    model = randomise(small())
    x = torch.randn(2, 3, 40, 52)
    want = copy.deepcopy(model).double()(x.double())
    errors = {}
    for emulated in (True, False):
        for module in ("ops.sequential", "ops.chunks", "ops.linear", "model.patch"):
            name = f"swinv2.{module}.is_emulated"
            monkeypatch.setattr(name, lambda device, dtype, on=emulated: on and dtype.itemsize == 2)
        with torch.no_grad():
            cast = copy.deepcopy(model).to(dtype).eval()(x.to(dtype))
        with torch.autocast("cpu", dtype):
            trained = model(x)
        model.zero_grad()
        trained.float().square().sum().backward()
        assert cast.dtype == trained.dtype == dtype
        assert all(p.grad.isfinite().all() for p in model.parameters())
        errors[emulated] = [float((y - want).norm() / want.norm()) for y in (cast, trained)]
    assert errors[True][0] < errors[False][0]
    assert max(errors[True]) < {torch.bfloat16: 0.05, torch.float16: 0.01}[dtype]


@pytest.mark.parametrize("training", [False, True])
def test_compiles_without_a_graph_break(training, randomise):
    torch._dynamo.reset()
    model = randomise(small(drop_path_rate=0.2)).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 37, 24)
    gradients = []
    for run in (compiled, model):
        torch.manual_seed(0)
        model.zero_grad()
        with torch.set_grad_enabled(training):
            out = run(x)
        if training:
            out.square().sum().backward()
        gradients.append([out, *(p.grad.clone() for p in model.parameters() if training)])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.slow
def test_one_dynamic_graph_serves_every_size(randomise):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model = randomise(small()).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    with torch.no_grad():
        for size in [
            (40, 56),
            (41, 56),
            (42, 61),
            (43, 62),
            (64, 64),
            (65, 90),
            (66, 91),
            (99, 47),
            (100, 128),
            (35, 34),
        ]:
            x = torch.randn(2, 3, *size)
            torch.testing.assert_close(compiled(x), model(x))
    assert counter.frame_count <= 3


def test_exports_with_standard_operators_only(randomise):
    model = randomise(small()).eval()
    x = torch.randn(2, 3, 37, 24)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x))
    assert not [node for node in exported.graph.nodes if "swinv2" in str(node.target)]


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (torch.zeros(1, 1, 32, 32), "1 channels, but this model takes 3"),
        (torch.zeros(3, 32, 32), r"but this model takes \[B, 3, \*2 sizes\]"),
        (torch.zeros(1, 3, 0, 32), "every axis must have at least one pixel"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "must be floating point"),
    ],
)
def test_bad_inputs_are_refused_in_one_sentence(x, sentence):
    with pytest.raises(ValueError, match=sentence):
        small()(x)


def test_other_channel_counts_by_configuration():
    assert small(in_channels=6)(torch.randn(1, 6, 32, 32)).shape == (1, 5)


def test_forward_on_the_meta_device():
    with torch.device("meta"):
        model = swinv2.create_model("swinv2_giant").eval()
        assert model(torch.empty(1, 3, 1536, 1536)).shape == (1, 1000)
        assert small()(torch.empty(2, 3, 33, 40)).shape == (2, 5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(256, 256), (224, 320), (255, 257), (1536, 1536)])
def test_tiny_at_many_resolutions(size):
    model = swinv2.create_model("swinv2_tiny").eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, *size)).isfinite().all()

import math
import warnings

import pytest
import torch
import torch.nn.functional as F

import swinv2
from swinv2.checkpoint.transfer import convert_channels, resize_table
from swinv2.geometry import log_coordinates
from swinv2.preprocessing import Preprocessing


def relative(got, want):
    return float((got - want).abs().max() / want.abs().max())


def images(*size, seed=0):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_a_larger_window_extrapolates_from_the_trained_one():
    largest = log_coordinates((10, 10), (8, 8)).max()
    assert float(largest) == pytest.approx(math.log2(8 * 9 / 7 + 1) / 3, rel=1e-6)
    assert round(float(largest), 4) == 1.1655


@pytest.mark.parametrize("bias", ["log_cpb", "linear_cpb"])
def test_the_trained_window_stays_through_loading_and_saving(small, tmp_path, bias):
    model = small(position_bias=bias)
    swinv2.save(model, tmp_path / "a.safetensors")
    wide = swinv2.load(tmp_path / "a.safetensors", window_size=6)
    assert wide.config.window_size == ((6, 6),) * 2
    assert wide.config.trained_window_size == ((4, 4),) * 2
    swinv2.save(wide, tmp_path / "b.safetensors")
    back = swinv2.load(tmp_path / "b.safetensors", window_size=4)
    assert back.config == model.config
    assert torch.equal(back(images(64, 64)), model(images(64, 64)))
    centre = wide.stages[0].blocks[0].attention.body.position_bias()[:, 2:-2, 2:-2]
    assert torch.allclose(centre, model.stages[0].blocks[0].attention.body.position_bias(), atol=1e-6)


def test_timm_stretches_the_bias_that_we_extrapolate(small):
    """timm's set_input_size renormalises the coordinates by the new window when its trained window is unset."""
    timm = pytest.importorskip("timm")
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    del timm
    model = small(num_classes=3, window_size=8, image_size=64)
    peer = SwinTransformerV2(img_size=64, window_size=8, embed_dim=16, depths=(2, 2), num_heads=(1, 2), num_classes=3)
    peer.load_state_dict(swinv2.convert(model.state_dict(), to="timm", trained_window_size=8))
    peer.eval()
    with torch.no_grad():
        assert relative(peer(images(64, 64)), model(images(64, 64))) < 1e-5
        peer.set_input_size((80, 80), window_size=(10, 10))
        ours = swinv2.load(model.state_dict(), trained_window_size=8, window_size=10)
        assert relative(peer(images(80, 80)), ours(images(80, 80))) > 1e-3
        coordinates = peer.layers[0].blocks[0].attn.relative_coords_table.max()
        assert round(float(coordinates), 4) == 1.0566  # stretched: the same as at window 8
        stretched = swinv2.load(model.state_dict(), trained_window_size=10, window_size=10)
        assert relative(peer(images(80, 80)), stretched(images(80, 80))) < 1e-5, "that is all that differs"


@pytest.mark.parametrize("window", [(7, 7), (6, 9), (12, 4)])
def test_tables_resize_as_microsofts_load_pretrained(window):
    table = torch.randn(5, 7, 7, generator=torch.Generator().manual_seed(0))  # window 4
    sizes = [2 * w - 1 for w in window]
    flat = table.flatten(1).T  # [(2w-1)^2, heads], as stored there
    want = F.interpolate(flat.permute(1, 0).view(1, 5, 7, 7), size=sizes, mode="bicubic").view(5, -1).permute(1, 0)
    assert torch.equal(resize_table(table, window).flatten(1).T, want)
    assert resize_table(table, (4, 4)) is table


def test_tables_of_clips_resize_along_each_axis():
    table = torch.randn(2, 5, 7, 7, generator=torch.Generator().manual_seed(0))
    want = F.interpolate(table.view(10, 1, 7, 7), size=(9, 11), mode="bicubic").view(2, 5, 9, 11)
    assert torch.allclose(resize_table(table, (3, 5, 6)), want, atol=1e-6)
    time = F.interpolate(table.movedim(1, -1).reshape(1, 2, 49, 5), size=(49, 9), mode="bicubic")
    assert torch.allclose(resize_table(table, (5, 4, 4)), time.view(2, 7, 7, 9).movedim(-1, 1), atol=1e-6)


def test_a_v1_model_moves_to_another_window(small):
    model = small("swin_tiny")
    moved = swinv2.load(model.state_dict(), window_size=((6, 4), (6, 4)))
    assert moved.config.trained_window_size == ((6, 4),) * 2
    for stage, other in zip(model.stages, moved.stages, strict=True):
        table = stage.blocks[0].attention.body.position_bias.table
        assert torch.equal(other.blocks[0].attention.body.position_bias.table, resize_table(table, (6, 4)))


@pytest.mark.parametrize("name", ["swinv2_nano", "swin_tiny"])
def test_an_inflated_model_sees_in_a_still_clip_what_the_image_model_sees(small, name):
    model = small(name)
    told = {} if name == "swin_tiny" else {"trained_window_size": 4}
    source = swinv2.convert(model.state_dict(), to="microsoft", **told)
    clip = swinv2.load(source, patch_size=(2, 4, 4), window_size=(3, 4, 4))
    assert clip.config.merge_size == (1, 2, 2)
    assert clip.config.trained_window_size == ((3, 4, 4),) * 2
    x = images(64, 64)
    for frames in (8, 6):
        still = x[:, :, None].expand(-1, -1, frames, -1, -1)
        with torch.no_grad():
            assert relative(clip(still), model(x)) < 1e-5
    moving = torch.randn(2, 3, 8, 64, 64)
    assert relative(clip(moving), model(moving[:, :, 0])) > 1e-2


@pytest.mark.parametrize("kind", [{"name": "swin_tiny"}, {"position_bias": "log_cpb"}, {"position_bias": "linear_cpb"}])
@pytest.mark.parametrize(("patch", "window", "frames"), [(2, 3, 6), (2, 3, 8), (2, 4, 4), (1, 8, 3), (3, 1, 7)])
def test_inflation_is_exact_for_any_window_in_time_and_any_number_of_frames(small, kind, patch, window, frames):
    """Windows that fit, are padded, shifted or shrunk along time; frames that are no multiple of the patch would show
    its padding.
    """
    model = small(**kind).double()
    told = {} if "name" in kind else {"trained_window_size": 4, **kind}
    clip = swinv2.load(
        model.state_dict(), dtype=torch.float64, patch_size=(patch, 4, 4), window_size=(window, 4, 4), **told
    )
    still = images(48, 40).double()[:, :, None].expand(-1, -1, frames // patch * patch, -1, -1)
    with torch.no_grad():
        maps, want = clip.feature_maps(still), model.feature_maps(still[:, :, 0])
        assert relative(clip(still), model(still[:, :, 0])) < 1e-12
    for ours, image in zip(maps, want, strict=True):
        assert relative(ours, image[:, :, None].expand_as(ours)) < 1e-12


@pytest.mark.parametrize("name", ["swinv2_nano", "swin_tiny"])
def test_inflation_to_another_window_is_that_of_the_image_model_moved_there(small, name):
    model = small(name)
    told = {} if name == "swin_tiny" else {"trained_window_size": 4}
    moved = swinv2.load(model.state_dict(), window_size=6, **told)
    clip = swinv2.load(model.state_dict(), patch_size=(2, 4, 4), window_size=(2, 6, 6), **told)
    still = images(64, 64)[:, :, None].expand(-1, -1, 8, -1, -1)
    with torch.no_grad():
        assert relative(clip(still), moved(still[:, :, 0])) < 1e-5
        assert relative(moved(still[:, :, 0]), model(still[:, :, 0])) > 1e-4


def test_inflated_models_learn_of_time(small):
    """The zero weights of time get gradients."""
    clip = swinv2.load(small().state_dict(), trained_window_size=4, patch_size=(2, 4, 4), window_size=(4, 4, 4))
    clip(torch.randn(1, 3, 8, 32, 32)).square().sum().backward()
    assert clip.stages[0].blocks[0].attention.body.position_bias.mlp[0].weight.grad[:, 0].any()


def test_preprocessing_goes_on_to_frames(small, tmp_path):
    preprocessing = Preprocessing(size=(64, 64), mean=(0.5,) * 3, std=(0.2,) * 3)
    swinv2.save(small(), tmp_path / "a.safetensors", preprocessing=preprocessing)
    clip = swinv2.load(tmp_path / "a.safetensors", patch_size=(2, 4, 4), window_size=(4, 4, 4))
    assert clip.info.preprocessing == preprocessing
    gray = swinv2.load(tmp_path / "a.safetensors", in_channels=1)
    assert gray.info.preprocessing is None


def test_inflated_bias_networks_ignore_time(small):
    clip = swinv2.load(
        swinv2.convert(small().state_dict(), to="timm", trained_window_size=4),
        trained_window_size=4, patch_size=(2, 4, 4), window_size=(5, 4, 4),
    )  # fmt: skip
    first = clip.stages[0].blocks[0].attention.body.position_bias.mlp[0].weight
    assert not first[:, 0].any()
    assert first[:, 1:].all()


def test_channels():
    kernel = torch.randn(4, 3, 2, 2)
    assert torch.allclose(convert_channels(kernel, 1), kernel.sum(1, keepdim=True))
    assert torch.allclose(convert_channels(kernel, 5), kernel[:, [0, 1, 2, 0, 1]] * 3 / 5)
    gray = torch.randn(4, 1, 2, 2)
    assert torch.allclose(convert_channels(gray, 3), gray.expand(-1, 3, -1, -1) / 3)


def test_a_gray_model_sees_what_the_old_one_sees_in_copied_channels(small):
    model = small()
    gray = swinv2.load(model.state_dict(), trained_window_size=4, in_channels=1)
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert relative(gray(x), model(x.expand(-1, 3, -1, -1))) < 1e-5


def test_another_head_starts_anew_and_says_so(small):
    model = small()
    with pytest.warns(UserWarning, match=r"head of 3 classes: the head of 5 classes starts anew"):
        other = swinv2.load(model.state_dict(), trained_window_size=4, num_classes=5)
    assert other.head.weight.shape == (5, 32)
    assert 0.01 < float(other.head.weight.std()) < 0.03
    assert not other.head.bias.any()
    assert torch.equal(other.stages[1].blocks[0].mlp.body.fc1.weight, model.stages[1].blocks[0].mlp.body.fc1.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        headless = swinv2.load(model.state_dict(), trained_window_size=4, num_classes=0)
    assert headless(images(64, 64)).shape == (2, 32)


def test_rows_of_a_head_are_taken_by_index(small, tmp_path):
    model = small()
    swinv2.save(model, tmp_path / "a.safetensors", classes=("cat", "dog", "owl"))
    chosen = swinv2.load(tmp_path / "a.safetensors", class_indices=[2, 0])
    assert chosen.info.classes == ("owl", "cat")
    assert torch.equal(chosen(images(64, 64)), model(images(64, 64))[:, [2, 0]])
    with pytest.raises(ValueError, match="class index 7 is outside the head of 3 classes"):
        swinv2.load(tmp_path / "a.safetensors", class_indices=[7])
    with pytest.raises(ValueError, match="2 class indices were given for num_classes 3"):
        swinv2.load(tmp_path / "a.safetensors", class_indices=[1, 0], num_classes=3)
    with pytest.raises(ValueError, match="must be a list of numbers or 'imagenet22k_to_1k'"):
        swinv2.load(tmp_path / "a.safetensors", class_indices="22k")


def test_imagenet_classes_are_where_the_synsets_are():
    """timm's list of the 21,841 synsets is independent of our file; 850 is the exception of Microsoft's list."""
    timm_data = pytest.importorskip("timm.data")
    info = timm_data.ImageNetInfo("imagenet21k_goog")
    small_info = timm_data.ImageNetInfo("imagenet1k")
    from swinv2.checkpoint.loading import _imagenet_indices

    indices = _imagenet_indices()
    rows = {name: row for row, name in enumerate(info.label_names())}
    assert len(set(indices)) == 1000
    assert max(indices) < 21841
    assert indices[850] == 5564
    assert all(indices[i] == rows[name] for i, name in enumerate(small_info.label_names()) if i != 850)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"depths": (2, 4)}, r"The weights have depths \(2, 2\), not \(2, 4\)"),
        ({"depths": [1, 1, 1]}, r"The weights have depths \(2, 2\), not \[1, 1, 1\]"),
        ({"embed_dim": 32}, "The weights have embed_dim 16, not 32"),
        ({"norm_placement": "pre"}, "The weights have norm_placement 'res_post', not 'pre'"),
        ({"patch_size": (2, 2)}, r"The weights have patch_size \(4, 4\), not \(2, 2\)"),
        ({"windw_size": 4}, "no field 'windw_size' .the nearest is 'window_size'"),
        ({"patch_size": (2, 4, 4)}, "pass window_size, such as"),
        ({"window_size": 0}, "window_size"),
    ],
)
def test_what_weights_cannot_follow_is_refused(small, overrides, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        swinv2.load(small().state_dict(), trained_window_size=4, **overrides)
    assert "\n" not in str(error.value)

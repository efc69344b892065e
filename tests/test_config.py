import dataclasses
import itertools

import pytest

from swinv2.config import (
    VARIANTS,
    SwinConfig,
    list_models,
    make_config,
)

TWO_STAGES = {"depths": (2, 2), "num_heads": (3, 6)}


def test_variants_cover_every_family_and_size():
    published = ["tiny", "small", "base", "large", "huge", "giant"]
    expected = {f"{family}_{size}" for family in ("swin", "swin_video") for size in published}
    expected |= {f"{family}_{size}" for family in ("swinv2", "swinv2_video") for size in ["nano", "micro", *published]}
    assert set(VARIANTS) == expected


@pytest.mark.parametrize("name", VARIANTS)
def test_published_heads_are_32_wide(name):
    config = VARIANTS[name]
    assert {dim // heads for dim, heads in zip(config.dims, config.num_heads, strict=True)} == {32}


def test_giant_is_the_papers():
    giant = VARIANTS["swinv2_giant"]
    assert (giant.embed_dim, giant.depths, giant.num_heads) == (512, (2, 2, 42, 4), (16, 32, 64, 128))
    assert giant.extra_norm_interval == 6
    assert VARIANTS["swin_giant"].extra_norm_interval == 0


@pytest.mark.parametrize(
    ("name", "window", "image", "trained"),
    [
        ("swinv2_tiny", None, None, (8, 8, 8, 8)),
        ("swinv2_tiny", 16, None, (16, 16, 16, 8)),
        ("swinv2_base", 12, 192, (12, 12, 12, 6)),
        ("swin_tiny", None, None, (7, 7, 7, 7)),
        ("swin_base", 12, 384, (12, 12, 12, 12)),
        ("swinv2_tiny", 16, (256, 100), ((16, 16), (16, 13), (16, 7), (8, 4))),
    ],
)
def test_trained_windows_follow_from_the_training_resolution(name, window, image, trained):
    config = make_config(name, window_size=window, image_size=image)
    assert config.trained_window_size == tuple(w if isinstance(w, tuple) else (w, w) for w in trained)


def test_an_explicit_trained_window_wins():
    config = make_config("swinv2_base", window_size=24, image_size=384, trained_window_size=(12, 12, 12, 6))
    assert config.trained_window_size == ((12, 12), (12, 12), (12, 12), (6, 6))
    assert config.window_size == ((24, 24),) * 4


def test_a_missing_override_is_no_override():
    """As a recipe's null is."""
    assert make_config("swinv2_tiny", window_size=16, trained_window_size=None) == make_config(
        "swinv2_tiny", window_size=16
    )


def test_video_defaults():
    config = VARIANTS["swin_video_tiny"]
    assert config.window_size == ((8, 7, 7),) * 4
    assert config.strides == ((2, 4, 4), (2, 8, 8), (2, 16, 16), (2, 32, 32))
    assert VARIANTS["swinv2_video_tiny"].window_size == ((8, 8, 8),) * 4


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (7, ((7, 7), (7, 7), (7, 7))),
        ((7, 9), ((7, 9), (7, 9), (7, 9))),
        ((7, 8, 9), ((7, 7), (8, 8), (9, 9))),
        ([7, (8, 4), 9], ((7, 7), (8, 4), (9, 9))),
    ],
)
def test_window_specifications(spec, expected):
    config = SwinConfig(depths=(2, 2, 2), num_heads=(3, 6, 12), window_size=spec)
    assert config.window_size == expected == config.trained_window_size


def test_a_flat_tuple_that_fits_both_stages_and_axes_is_refused():
    with pytest.raises(ValueError, match=r"one number per stage or one per axis: nest it, as \(\(7, 7\), \(8, 8\)\)"):
        SwinConfig(**TWO_STAGES, window_size=(7, 8))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"window_size": 0}, "positive whole numbers"),
        ({"window_size": (7, 7, 7)}, r"one number, one per axis \(2\), or one entry per stage \(4\)"),
        ({"window_size": ((7, 7, 7),) * 4}, "each stage's entry must have 2 numbers"),
        ({"num_heads": (3, 6, 12, 25)}, "stage 4 has 768 channels, which 25 heads do not divide"),
        ({"num_heads": (3, 6)}, "2 entries for 4 stages"),
        ({"patch_size": 4}, "patch_size is 4, but must be a tuple"),
        ({"merge_size": (2, 2, 2)}, "merge_size"),
        ({"norm_placement": "Post"}, "norm_placement is 'Post', but must be one of"),
        ({"attention_score": "cos"}, "attention_score"),
        ({"position_bias": "cpb"}, "position_bias"),
        ({"drop_path_rate": 1.0}, r"\[0, 1\)"),
        ({"num_classes": -1}, "num_classes"),
        ({"mlp_ratio": 0.0}, "mlp_ratio"),
        ({"mlp_ratio": 1e-3}, "leaves the MLP no width"),
        ({"embed_dim": 96.0}, "embed_dim is 96.0, but must be a whole number"),
        ({"patch_size": (2, 2, 2, 2)}, "4 axes, but 1 to 3 are possible"),
    ],
)
def test_impossible_configurations_are_refused_in_one_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        SwinConfig(**fields)
    assert "\n" not in str(error.value)


def test_plain_data_round_trip_with_lists():
    import json

    for config in VARIANTS.values():
        assert SwinConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_fields_and_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"no field 'windw_size' \(the nearest is 'window_size'\)"):
        SwinConfig.from_dict({"windw_size": 8})
    with pytest.raises(ValueError, match=r"no model 'swinv2_tny' \(the nearest is 'swinv2_tiny'\)"):
        make_config("swinv2_tny")


def test_a_video_model_needs_one_image_size_per_axis():
    with pytest.raises(ValueError, match="3 axes: give one number per axis"):
        make_config("swinv2_video_tiny", image_size=256)


def test_configurations_are_frozen_and_hashable():
    config = SwinConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.embed_dim = 1
    assert len({SwinConfig(), config}) == 1


def test_grids_round_up():
    assert SwinConfig().grids((255, 1)) == ((64, 1), (32, 1), (16, 1), (8, 1))


def test_list_models_takes_a_pattern():
    assert list_models("swinv2_video_*") == [name for name in VARIANTS if name.startswith("swinv2_video")]


def test_every_combination_of_the_papers_switches_is_a_configuration():
    for norm, score, bias in itertools.product(
        ("pre", "sandwich", "post", "res_post"), ("dot", "cosine"), ("table", "linear_cpb", "log_cpb")
    ):
        SwinConfig(norm_placement=norm, attention_score=score, position_bias=bias)


def test_a_single_nested_window_serves_all_stages():
    config = SwinConfig(depths=(1, 1), num_heads=(1, 1), embed_dim=8, window_size=((4, 6),))
    assert config.window_size == ((4, 6), (4, 6))

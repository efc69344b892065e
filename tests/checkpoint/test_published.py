"""Every record against the library that publishes the weights; the way from any of their names to a file."""

import dataclasses
import math

import pytest
import torch

from swinv2.checkpoint.published import RECORDS, fetch, find, get, list_pretrained, of_variant
from swinv2.checkpoint.record import num_parameters
from swinv2.config import VARIANTS, SwinConfig, make_config
from swinv2.download import DownloadError
from swinv2.model import SwinTransformer

BY_KIND = {
    kind: {source.location: record for record in RECORDS.values() for source in record.sources if source.kind == kind}
    for kind in ("timm", "transformers", "torchvision", "github", "drive")
}


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def on_meta(config):
    with torch.device("meta"):
        return SwinTransformer(config)


def test_the_published_weights_are_all_there():
    sizes = {kind: len(records) for kind, records in BY_KIND.items()}
    assert sizes == {"timm": 31, "transformers": 24, "torchvision": 10, "github": 32, "drive": 7}
    assert len(list_pretrained("swinv2_*.simmim_*")) == 126
    assert len(RECORDS) == 31 + 1 + 10 + 7 + 126


def test_every_record_builds_and_its_parameters_are_counted_without_building():
    configs = {record.config(): record.name for record in RECORDS.values()}
    for config, name in configs.items():
        assert parameters(on_meta(config)) == num_parameters(config), name


@pytest.mark.parametrize(
    "config",
    [
        *(make_config(name) for name in VARIANTS if name not in ("swin_giant", "swinv2_giant", "swinv2_video_giant")),
        make_config("swinv2_nano", norm_placement="sandwich", in_channels=2, num_classes=0, mlp_ratio=2.5),
        SwinConfig(patch_size=(3,), depths=(7,), num_heads=(2,), embed_dim=10, window_size=5, extra_norm_interval=3),
        make_config("swin_tiny", position_bias="linear_cpb", attention_score="cosine", window_size=(4, 6)),
    ],
)
def test_parameters_of_any_architecture_are_counted_without_building(config):
    assert parameters(on_meta(config)) == num_parameters(config)


def test_records_are_plain_and_whole():
    for name, record in RECORDS.items():
        assert record.name == name
        assert record.variant in VARIANTS
        assert (record.top1 is None) == (record.labels in ("none", "in22k"))
        assert (record.top1 is None) == (record.reported_by == "")
        assert record.licence in ("mit", "bsd-3-clause")
        assert record.preprocessing.size == record.image_size[-2:]
        assert record.info().preprocessing == record.preprocessing
        assert record.info().extra == {"weights": name, "licence": record.licence}


@pytest.mark.parametrize(
    ("pattern", "windows"),
    [
        ("swinv2_*_window8_256.*", (8, 8, 8, 8)),
        ("swinv2_*_window16_256.*", (16, 16, 16, 8)),
        ("swinv2_*_window12*", (12, 12, 12, 6)),
        ("swin_*window7_224.*", (7, 7, 7, 7)),
        ("swin_*patch4_window12_384.*", (12, 12, 12, 12)),
        ("swin_large_window12_192.simmim*", (12, 12, 12, 6)),
        ("swin_large_window12to14_192to224.simmim*", (14, 14, 14, 7)),
        ("swin_base_window6to7_192to224.simmim*", (7, 7, 7, 7)),
        ("swin_s3_small_224*", (14, 14, 14, 7)),
    ],
)
def test_trained_windows_follow_the_first_training(pattern, windows):
    names = list_pretrained(pattern)
    assert names
    for name in names:
        assert get(name).trained_window_size == tuple((size, size) for size in windows), name


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("swinv2_base_window12to24_192to384.ms_in22k_ft_in1k", ((24, 24), (24, 24), (24, 24), (12, 12))),
        ("swinv2_base_window16_256.ms_in1k", ((16, 16), (16, 16), (16, 16), (8, 8))),
        ("swinv2_small_window12to14_192to224.simmim_1k_500k_ft_in1k", ((14, 14), (14, 14), (14, 14), (7, 7))),
        ("swin_large_window12_192.simmim_800ep", ((12, 12), (12, 12), (12, 12), (6, 6))),
        ("swin_video_tiny_window8x7x7_224.tv_k400", ((8, 7, 7),) * 4),
    ],
)
def test_a_window_is_no_larger_than_the_map_it_was_last_trained_on(name, windows):
    assert get(name).window_size == windows


@pytest.fixture(scope="module")
def timm_cfgs():
    """timm's own configuration of each of its pre-trained names."""
    timm = pytest.importorskip("timm")
    names = timm.list_pretrained("swin_*") + timm.list_pretrained("swinv2_*")
    return {name: timm.get_pretrained_cfg(name) for name in names if not name.startswith("swinv2_cr_")}


def test_no_model_of_timm_is_missing(timm_cfgs):
    assert {f"timm/{name}" for name in timm_cfgs} == set(BY_KIND["timm"])


@pytest.mark.slow
def test_architectures_are_timms(timm_cfgs):
    import timm

    with torch.device("meta"):
        models = {cfg.architecture: timm.create_model(cfg.architecture, num_classes=0) for cfg in timm_cfgs.values()}
    for name, cfg in timm_cfgs.items():
        record, model = RECORDS[name], models[cfg.architecture]
        config = record.config()
        assert parameters(model) == num_parameters(dataclasses.replace(config, num_classes=0)), name
        for stage, layer in enumerate(model.layers):
            attention = layer.blocks[0].attn
            grid = config.grids(record.image_size)[stage]
            assert attention.window_size == tuple(map(min, config.window_size[stage], grid)), name
            if config.position_bias == "log_cpb":
                trained = attention.pretrained_window_size
                expected = trained if trained[0] else attention.window_size  # 0 stands for the window itself
                assert config.trained_window_size[stage] == expected, name


def test_configurations_are_timms(timm_cfgs):
    for name, cfg in timm_cfgs.items():
        record, given = RECORDS[name], RECORDS[name].preprocessing
        assert cfg.input_size == (3, *given.size), name
        assert cfg.crop_pct == given.crop_fraction, name
        assert (cfg.mean, cfg.std, cfg.interpolation) == (given.mean, given.std, given.interpolation), name
        assert cfg.num_classes == record.num_classes, name
        assert cfg.license == record.licence, name
        assert cfg.hf_hub_id == record.sources[0].location, name
        assert cfg.url == record.sources[-1].location, name


@pytest.fixture(scope="module")
def torchvision_weights():
    models = pytest.importorskip("torchvision.models")
    enums = [models.get_model_weights(name) for name in models.list_models() if name.startswith("swin")]
    return {str(member): member for enum in enums for member in enum}


def test_no_weights_of_torchvision_are_missing(torchvision_weights):
    assert set(torchvision_weights) == {record.aliases[0] for record in BY_KIND["torchvision"].values()}


def test_figures_are_torchvisions(torchvision_weights):
    for name, member in torchvision_weights.items():
        record = get(name)
        (metrics,) = member.meta["_metrics"].values()
        assert record.sources[0].location == member.url, name
        assert record.top1 == metrics["acc@1"], name
        assert record.num_classes == len(member.meta["categories"]), name
        config = record.config()
        # torchvision's V2 keeps a key bias that is always zero.
        zeros = sum(d * n for d, n in zip(config.dims, config.depths, strict=True)) * (not config.key_bias)
        assert member.meta["num_params"] == num_parameters(config) + zeros, name


def test_preprocessing_is_torchvisions(torchvision_weights):
    for name, member in torchvision_weights.items():
        transform, given = member.transforms(), get(name).preprocessing
        crop = tuple(transform.crop_size)
        assert (crop * 2 if len(crop) == 1 else crop) == given.size, name
        assert [int(given.size[0] / given.crop_fraction)] == list(transform.resize_size), name
        assert (tuple(transform.mean), tuple(transform.std)) == (given.mean, given.std), name
        assert transform.interpolation.value == given.interpolation, name


def test_transformers_repositories_are_named_after_microsofts_files():
    for location, record in BY_KIND["transformers"].items():
        files = {source.file.removesuffix(".pth").replace("_", "-") for source in record.sources if source.file}
        name = location.removeprefix("microsoft/")
        size, window = record.variant.split("_")[1], record.window
        assert name.startswith(f"{record.variant.split('_')[0]}-{size}-")
        if record.variant.startswith("swinv2"):
            assert name in files
        else:
            assert f"window{window}-{record.image_size[0]}" in name
            assert name.endswith("-in22k") == (record.labels == "in22k")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("swinv2_tiny_window8_256.ms_in1k", "swinv2_tiny_window8_256.ms_in1k"),
        ("timm/swinv2_tiny_window8_256.ms_in1k", "swinv2_tiny_window8_256.ms_in1k"),
        ("hf-hub:timm/swinv2_tiny_window8_256.ms_in1k", "swinv2_tiny_window8_256.ms_in1k"),
        ("hf_hub:timm/swinv2_tiny_window8_256.ms_in1k", "swinv2_tiny_window8_256.ms_in1k"),
        ("https://huggingface.co/timm/swinv2_tiny_window8_256.ms_in1k/", "swinv2_tiny_window8_256.ms_in1k"),
        ("microsoft/swinv2-tiny-patch4-window8-256", "swinv2_tiny_window8_256.ms_in1k"),
        ("swinv2_tiny_patch4_window8_256", "swinv2_tiny_window8_256.ms_in1k"),
        ("/somewhere/swinv2_tiny_patch4_window8_256.pth", "swinv2_tiny_window8_256.ms_in1k"),
        ("C:\\weights\\swinv2_tiny_patch4_window8_256.pth", "swinv2_tiny_window8_256.ms_in1k"),
        ("swinv2_tiny_patch4_window8_256.safetensors", "swinv2_tiny_window8_256.ms_in1k"),
        ("swin_tiny_patch4_window7_224.pth", "swin_tiny_patch4_window7_224.ms_in1k"),
        ("Swin_V2_T_Weights.IMAGENET1K_V1", "swinv2_tiny_window8_256.tv_in1k"),
        ("swin_v2_t-b137f0e2.pth", "swinv2_tiny_window8_256.tv_in1k"),
        (
            "finetune_swinv2_giant_22k_500k.pth",
            "swinv2_giant1b_window12to14_192to224.simmim_22k_500k_ft_in1k",
        ),
        ("swinv2_giant_22k_500k.pth", "swinv2_giant1b_window12_192.simmim_22k_500k"),
    ],
)
def test_weights_are_found_by_any_of_their_names(spelling, name):
    assert find(spelling).name == name


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "swinv2_tiny",
        "model.safetensors",
        "somebody/swinv2_tiny_window8_256.ms_in1k",  # fine-tuned by somebody, perhaps at another window
        "swin_tiny_patch4_window7_224.mine",
        "zdaxie/SimMIM",
    ],
)
def test_other_weights_are_not_taken_for_published_ones(origin):
    assert find(origin) is None


def test_every_name_is_of_one_record_alone():
    for record in RECORDS.values():
        files = [source.file.rpartition("/")[2] or source.location for source in record.sources]
        for name in (record.name, *record.aliases, *files):
            assert find(name) is record, name


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(ValueError, match=r"nearest is 'swinv2_tiny_window8_256.ms_in1k'"):
        get("swinv2_tiny_window8_256.ms_in2k")


def test_a_variant_alone_has_to_be_unambiguous():
    assert of_variant("swin_video_tiny").name == "swin_video_tiny_window8x7x7_224.tv_k400"
    with pytest.raises(ValueError, match=r"swinv2_tiny_window8_256.ms_in1k, swinv2_tiny_window16_256.ms_in1k"):
        of_variant("swinv2_tiny")
    with pytest.raises(ValueError, match="no published weights of swinv2_giant"):
        of_variant("swinv2_giant")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache of the hub and of torch.hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path


@pytest.mark.parametrize(
    ("origin", "source", "said"),
    [
        ("swinv2_tiny_window8_256.ms_in1k", None, "https://huggingface.co/timm/swinv2_tiny_window8_256.ms_in1k"),
        ("microsoft/swinv2-tiny-patch4-window8-256", None, "huggingface.co/microsoft/swinv2-tiny-patch4-window8-256"),
        ("swinv2_tiny_window8_256.ms_in1k", "github", r"swinv2\.load\('swinv2_tiny_patch4_window8_256.pth'\)"),
        ("swinv2_tiny_patch4_window8_256.pth", None, "releases/download/v2.0.0/swinv2_tiny_patch4_window8_256.pth"),
        ("Swin_V2_T_Weights.IMAGENET1K_V1", None, "https://download.pytorch.org/models/swin_v2_t-b137f0e2.pth"),
        (
            "swinv2_base_window12_192.simmim_1k_500k",
            None,
            "zdaxie/SimMIM/resolve/main/simmim_swinv2_pretrain_models/swinv2_base_1k_500k.pth",
        ),
        (
            "swin_base_window6_192.simmim_800ep",
            None,
            "drive.google.com.*simmim_pretrain__swin_base__img192_window6__80",
        ),
        ("somebody/else", None, "https://huggingface.co/somebody/else"),
    ],
)
def test_without_a_network_each_source_says_where_the_file_is(offline, origin, source, said):
    with pytest.raises(DownloadError, match=said) as refusal:
        fetch(origin, source)
    assert "\n" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_an_unknown_source_or_name_is_refused():
    with pytest.raises(ValueError, match="only by timm, transformers, github"):
        fetch("swinv2_tiny_window8_256.ms_in1k", "torchvision")
    with pytest.raises(ValueError, match="no published weights 'swinv3'"):
        fetch("swinv3")


def test_a_record_is_fetched_from_the_cache(offline):
    commit = "a" * 40
    snapshot = offline / "hub" / "models--timm--swinv2_tiny_window8_256.ms_in1k" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    assert fetch("swinv2_tiny_window8_256.ms_in1k") == snapshot
    assert fetch(get("swinv2_tiny_window8_256.ms_in1k"), "timm") == snapshot


def test_records_are_values():
    record = get("swin_s3_base_224.ms_in1k")
    assert dataclasses.replace(record) == record
    assert hash(record) == hash(dataclasses.replace(record))
    assert math.isclose(record.top1, 83.92)

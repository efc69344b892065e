from pathlib import Path

import pytest
import torch

import swinv2 as library
from swinv2.checkpoint import load, save


@pytest.fixture
def convert(swinv2):
    return lambda *arguments: swinv2("convert", *arguments)


@pytest.fixture
def model(randomise):
    return randomise(
        library.create_model(
            "swinv2_nano", embed_dim=8, depths=(1, 1), num_heads=(1, 2), num_classes=3, window_size=4, image_size=32
        )
    ).eval()


@pytest.fixture
def timm_file(model, tmp_path: Path) -> Path:
    path = tmp_path / "timm.pth"
    save(model, path, to="timm")
    return path


def test_another_window_in_another_format(convert, model, timm_file, tmp_path) -> None:
    target = tmp_path / "wide.pth"
    status, out, err = convert(
        timm_file, target, "--to", "torchvision", "--trained-window-size", "4", "--window-size", "6"
    )
    assert (status, out) == (0, "")
    assert "timm format, V2" in err
    assert "window 6x6, trained at 4x4" in err
    assert err.endswith(f"wrote {target} in the torchvision format\n")
    back = load(target)  # torchvision's buffers tell both windows
    assert back.config.window_size == ((6, 6), (6, 6))
    assert back.config.trained_window_size == ((4, 4), (4, 4))
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(back(x), load(timm_file, trained_window_size=4, window_size=6)(x))


def test_folders_for_transformers_and_back(convert, model, timm_file, tmp_path) -> None:
    assert convert(timm_file, tmp_path / "hf", "--to", "transformers", "--trained-window-size", "4").status == 0
    assert convert(tmp_path / "hf", tmp_path / "own.safetensors").status == 0
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(load(tmp_path / "own.safetensors")(x), model(x))


@pytest.mark.parametrize(
    ("text", "window"),
    [("6", ((6, 6), (6, 6))), ("4x6", ((4, 6), (4, 6))), ("8,4", ((8, 8), (4, 4))), ("8x4,4", ((8, 4), (4, 4)))],
)
def test_windows_as_people_write_them(convert, timm_file, tmp_path, text, window) -> None:
    target = tmp_path / "w.safetensors"
    assert convert(timm_file, target, "--trained-window-size", "4", "--window-size", text).status == 0
    assert load(target).config.window_size == window


def test_rows_channels_and_types(convert, model, timm_file, tmp_path) -> None:
    (tmp_path / "rows.txt").write_text("2 0\n")
    target = tmp_path / "w.safetensors"
    options = ("--trained-window-size", "4", "--class-indices", tmp_path / "rows.txt", "--in-channels", "1")
    assert convert(timm_file, target, *options, "--dtype", "bf16").status == 0
    small = load(target, dtype="keep")
    assert (small.config.num_classes, small.config.in_channels) == (2, 1)
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}
    assert torch.equal(small.head.weight, model.head.weight[[2, 0]].bfloat16())


def test_an_image_model_becomes_one_of_clips(convert, timm_file, tmp_path) -> None:
    target = tmp_path / "clip.safetensors"
    options = ("--trained-window-size", "4", "--patch-size", "2x4x4", "--window-size", "2x4x4")
    assert convert(timm_file, target, *options).status == 0
    assert load(target)(torch.randn(1, 3, 4, 32, 32)).shape == (1, 3)


def test_nothing_is_overwritten(convert, timm_file, tmp_path) -> None:
    target = tmp_path / "w.safetensors"
    target.write_bytes(b"precious")
    status, _, err = convert(timm_file, target, "--trained-window-size", "4")
    assert (status, target.read_bytes()) == (2, b"precious")
    assert "exists" in err
    assert convert(timm_file, target, "--trained-window-size", "4", "--overwrite").status == 0


BAD = {
    "no window": ((), "pass trained_window_size, or window_size and the training image_size"),
    "suffix": (("--trained-window-size", "4", "--to", "timm"), "should end in .safetensors, .pth, .pt or .bin"),
    "rows": (("--class-indices", "nowhere.txt"), "there is no file 'nowhere.txt' of class indices"),
    "another number of stages": (("--trained-window-size", "4,4,4"), "or one entry per stage (2)"),
    "architecture": (("--trained-window-size", "4", "--patch-size", "2"), "The weights have patch_size"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_one_sentence(convert, timm_file, tmp_path, case) -> None:
    options, sentence = BAD[case]
    target = tmp_path / ("w.xyz" if case == "suffix" else "w.safetensors")
    status, _, err = convert(timm_file, target, *options)
    assert status == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"timm.pth"}


def test_a_source_that_is_missing(convert, tmp_path) -> None:
    status, _, err = convert(tmp_path / "no.pth", tmp_path / "w.safetensors")
    assert status == 2
    assert "There is no weights file" in err


def test_v2_only_names_are_refused_by_formats_without_them(convert, randomise, tmp_path) -> None:
    huge = library.create_model("swinv2_nano", embed_dim=8, depths=(2, 2), num_heads=(1, 2), extra_norm_interval=2)
    save(randomise(huge), tmp_path / "h.safetensors")
    status, _, err = convert(tmp_path / "h.safetensors", tmp_path / "w.pth", "--to", "timm")
    assert status == 2
    assert "The timm format has no V2 models of 2 axes with extra norms: use 'swinv2'" in err
    assert convert(tmp_path / "h.safetensors", tmp_path / "w.pth", "--to", "microsoft").status == 0

import csv
import io
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file

import swinv2.cli.sheet
from swinv2.checkpoint import load, save
from swinv2.cli.images import open_images
from swinv2.data.transforms import eval_transform
from swinv2.model import create_model


@pytest.fixture
def photos(class_folders) -> Path:
    return class_folders(counts={"cat": 3, "dog": 2})


@pytest.fixture
def predict(swinv2, weights: Path):
    return lambda *arguments: swinv2("predict", "--weights", weights, *arguments)


def expected(weights: Path, path: Path) -> list[tuple[str, float]]:
    model = load(weights)
    with torch.inference_mode(), Image.open(path) as image:
        p = model(eval_transform(model.info.preprocessing)(image)[None]).softmax(1)[0].tolist()
    return sorted(zip(model.info.classes, p, strict=True), key=lambda entry: -entry[1])


def test_json_ranks_the_classes_of_every_image_in_order(predict, weights: Path, photos: Path) -> None:
    files = [photos / "dog" / "1.png", *sorted((photos / "cat").iterdir())]
    status, out, err = predict(*files, "--format", "json", "--batch-size", 3, "--top", 2)
    entries = json.loads(out)
    assert status == 0
    assert [entry["file"] for entry in entries] == list(map(str, files))
    for entry, path in zip(entries, files, strict=True):
        ranking = [(found["name"], found["probability"]) for found in entry["classes"]]
        assert [name for name, _ in ranking] == [name for name, _ in expected(weights, path)[:2]]
        assert [p for _, p in ranking] == pytest.approx([p for _, p in expected(weights, path)[:2]], rel=1e-4)
    assert err.splitlines()[-1] == "4 images, 0 files skipped"


def test_a_file_named_with_commas_survives_csv(predict, photos: Path) -> None:
    odd = (photos / "cat" / "0.png").rename(photos / 'a, "b".png')
    rows = list(csv.DictReader(io.StringIO(predict(odd, "--format", "csv", "--top", 9).out)))
    assert [row["file"] for row in rows] == [str(odd)] * 4
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(1)


def test_folders_globs_and_files_are_one_list_without_repetition(predict, photos: Path) -> None:
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "secret.png").write_bytes(b"")
    out = predict(photos / "dog" / "1.png", photos, f"{photos}/*/0.png").out
    names = [line.split()[0] for line in out.splitlines()]
    assert names == [str(photos / name) for name in ("dog/1.png", "cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png")]


def test_unreadable_files_are_listed_or_refused(predict, photos: Path) -> None:
    (photos / "cat" / "0.png").write_bytes(b"")
    (photos / "notes.txt").write_text("")
    status, out, err = predict(photos)
    assert status == 0
    assert len(out.splitlines()) == 4
    assert err.splitlines()[-1] == "4 images, 2 files skipped"
    assert {Path(line.split()[1].rstrip(":")).name for line in err.splitlines()[:-1]} == {"0.png", "notes.txt"}
    assert predict(photos / "cat", "--strict").status == 2
    nothing = predict(photos / "cat" / "0.png")
    assert (nothing.status, nothing.out) == (2, "")


def test_one_class_is_enough(swinv2, save_weights, photos: Path) -> None:
    status, out, _ = swinv2("predict", "--weights", save_weights("cat"), photos / "cat" / "0.png")
    assert status == 0
    assert out.split()[1:] == ["cat", "100.0%"]


def test_gray_models_see_gray(swinv2, save_weights, photos: Path) -> None:
    assert swinv2("predict", "--weights", save_weights("cat", "dog", channels=1), photos).status == 0


def test_four_channels_need_transparency(swinv2, save_weights, photos: Path) -> None:
    status, _, err = swinv2("predict", "--weights", save_weights("cat", "dog", channels=4), photos)
    assert status == 2
    assert "transparency" in err


def test_the_sheet_and_the_output_replace_nothing(predict, photos: Path, tmp_path: Path) -> None:
    sheet, table = tmp_path / "sheet.png", tmp_path / "table.txt"
    arguments = (photos, "--sheet", sheet, "--output", table)
    assert predict(*arguments).status == 0
    with Image.open(sheet) as image:
        assert min(image.size) > 100
    assert len(table.read_text().splitlines()) == 5
    assert predict(*arguments).status == 2
    assert predict(*arguments, "--overwrite").status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no file, folder or pattern nothing"),
        (["--top", "0", "{image}"], "'0' is not a whole number above 0"),
        (["--workers", "-1", "{image}"], "'-1' is not a whole number"),
        (["--output", "{folder}", "--overwrite", "{image}"], "not a file that can be replaced"),
        (["--sheet", "/dev/null", "--overwrite", "{image}"], "not a file that can be replaced"),
        (["--sheet", "{image}/sheet.png", "{image}"], "no folder to write into"),
    ],
)
def test_wrong_arguments_are_refused(predict, photos: Path, arguments: list[str], words: str) -> None:
    places = {"image": photos / "cat" / "0.png", "folder": photos}
    status, out, err = predict(*(argument.format(**places) for argument in arguments))
    assert (status, out) == (2, "")
    assert words in err
    assert places["image"].is_file()


@pytest.fixture
def bare(weights: Path, tmp_path: Path) -> Path:
    """The weights as Microsoft has them: without names, preprocessing and our windows."""
    save(load(weights), tmp_path / "bare.pth", to="microsoft")
    return tmp_path / "bare.pth"


def test_what_the_weights_do_not_tell_must_be_given(swinv2, bare: Path, photos: Path, tmp_path: Path) -> None:
    classes, short = tmp_path / "classes.txt", tmp_path / "short.txt"
    classes.write_text("owl\nfox\ndog\ncat\n")
    short.write_text("owl\nfox\n")
    base = ("predict", "--weights", bare, "--trained-window-size", "2", photos)
    named = ("--classes", classes)
    for given, words in (
        ((), f"{bare} does not name its 4 classes: give them with --classes FILE"),
        (("--classes", short), f"{short} names 2 classes, but {bare} tells 4 apart"),
        (("--classes", tmp_path / "none.txt"), "none.txt of class names"),
        (named, f"{bare} does not tell the size of its input: give it with --image-size"),
        ((*named, "--image-size", "2x8x8"), "image size (2, 8, 8) is not a height and a width"),
        ((*named, "--image-size", "small"), "'small' is no size"),
        ((*named, "--window-size", "0"), "'0' is no size"),
    ):
        status, out, err = swinv2(*base, *given)
        assert (status, out) == (2, "")
        assert words in err
    status, out, err = swinv2(*base, *named, "--image-size", 8)
    assert status == 0
    assert {line.split()[1] for line in out.splitlines()} <= {"owl", "fox", "dog", "cat"}
    assert "ImageNet's" in err


def test_names_that_are_given_replace_those_in_the_weights(predict, photos: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("Eule\nFuchs\nHund\nKatze\n")
    old, new = (json.loads(predict(photos, "--format", "json", *given).out) for given in ((), ("--classes", classes)))
    names = {"owl": "Eule", "fox": "Fuchs", "dog": "Hund", "cat": "Katze"}
    for before, after in zip(old, new, strict=True):
        assert [names[each["name"]] for each in before["classes"]] == [each["name"] for each in after["classes"]]


def test_another_window_and_resolution(predict, weights: Path, photos: Path) -> None:
    path = photos / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    out = predict(path, "--window-size", "3,2", "--image-size", "12x16", "--format", "json").out
    model, usual = load(weights, window_size=((3, 3), (2, 2))), load(weights)
    transform = eval_transform(replace(model.info.preprocessing, size=(12, 16)))
    with torch.inference_mode(), Image.open(path) as image:
        p, other = (each(transform(image)[None]).softmax(1)[0].tolist() for each in (model, usual))
    found = {each["name"]: each["probability"] for each in json.loads(out)[0]["classes"]}
    assert [found[name] for name in model.info.classes] == pytest.approx(p, rel=1e-4)
    assert p != pytest.approx(other, rel=1e-2)


def test_models_that_cannot_classify_images_are_refused(swinv2, photos: Path, tmp_path: Path) -> None:
    clips = create_model("swinv2_video_tiny", window_size=2, num_classes=2, embed_dim=4, depths=[1], num_heads=[1])
    headless = create_model("swinv2_nano", num_classes=0, embed_dim=4, depths=[1], num_heads=[1])
    for model, words in ((clips, "holds no videos"), (headless, "has no head")):
        save(model, tmp_path / "odd.safetensors")
        status, out, err = swinv2("predict", "--weights", tmp_path / "odd.safetensors", photos)
        assert (status, out) == (2, "")
        assert words in err


def odd_images(folder: Path) -> dict[str, list[Path]]:
    """The same picture in two files each: one as it should be, one as people have it."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    photo, small = Image.fromarray(pixels), Image.new("RGB", (1, 1), (9, 80, 200))
    gray = photo.convert("L")
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    pairs = {
        "rotated": [(photo, {}), (photo.transpose(Image.Transpose.ROTATE_90), {"exif": exif})],
        "16-bit": [(gray.convert("RGB"), {}), (deep, {})],
        "palette": [(photo.quantize(16).convert("RGB"), {}), (photo.quantize(16), {})],
        "tiny": [(small.resize((30, 30)), {}), (small, {})],
    }
    for name, pair in pairs.items():
        for number, (image, options) in enumerate(pair):
            image.save(folder / f"{name}-{number}.png", **options)
    return {name: [folder / f"{name}-{number}.png" for number in range(2)] for name in pairs}


@pytest.mark.parametrize("kind", ["rotated", "16-bit", "palette", "tiny"])
def test_odd_images_are_seen_as_they_look(predict, tmp_path: Path, kind: str) -> None:
    usual, odd = json.loads(predict(*odd_images(tmp_path)[kind], "--format", "json").out)
    assert [found["name"] for found in odd["classes"]] == [found["name"] for found in usual["classes"]]
    p = [[found["probability"] for found in each["classes"]] for each in (usual, odd)]
    assert p[0] == pytest.approx(p[1], abs=1e-4)


def test_weights_of_another_library_are_refused(swinv2, photos: Path, tmp_path: Path) -> None:
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    status, _, err = swinv2("predict", "--weights", tmp_path / "other.safetensors", photos)
    assert status == 2
    assert "no weights of a Swin" in err


def test_files_are_named_as_they_were_given(predict, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named file needs no extension, and links are followed as in training."""
    monkeypatch.chdir(photos)
    (photos / "cat" / "0.png").rename(photos / "scan")
    (photos / "dog" / "linked").symlink_to(photos / "cat")
    out = predict("./scan", "scan", "./dog").out
    assert [line.split()[0] for line in out.splitlines()] == [
        "./scan",
        *(f"./dog/{name}.png" for name in ("0", "1", "linked/1", "linked/2")),
    ]


def test_a_folder_of_very_many_files_is_listed_at_once(tmp_path: Path) -> None:
    for number in range(4000):
        (tmp_path / f"{number:04d}.png").touch()
    (tmp_path / "phone.heic").touch()
    started = time.perf_counter()
    source = open_images([str(tmp_path)], strict=False)
    assert time.perf_counter() - started < 2
    assert len(source) == 4000
    assert source.skipped[0].endswith("phone.heic: not an image by its extension; convert it to JPEG.")


def test_the_sheet_holds_thumbnails(predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    Image.new("RGB", (2000, 1000)).save(tmp_path / "large.png")
    monkeypatch.setattr(swinv2.cli.sheet, "sheet", lambda images: sizes.extend(i.size for i, _ in images) or Figure())
    assert predict(tmp_path / "large.png", "--sheet", tmp_path / "sheet.png").status == 0
    assert sizes == [(300, 150)]

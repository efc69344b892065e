import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.checkpoint import load, save
from swinv2.data.transforms import eval_transform
from swinv2.model import SwinTransformer
from swinv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from swinv2.train.folder import RunFolder


def judge(
    weights: Path, photos: Path, window: int | None = None, size: tuple[int, int] = (8, 8)
) -> tuple[float, float]:
    """Top-1 and loss of all photos, one by one."""
    model = load(weights, window_size=window)
    transform, right, loss = eval_transform(replace(model.info.preprocessing, size=size)), 0, 0.0
    paths = sorted(photos.glob("*/*.png"))
    for path in paths:
        with torch.inference_mode(), Image.open(path) as image:
            logits = model(transform(image)[None]).log_softmax(1)[0]
        label = model.info.classes.index(path.parent.name)
        right += int(logits.argmax() == label)
        loss -= float(logits[label])
    return right / len(paths), loss / len(paths)


def save_as_imagenet(model: SwinTransformer, folder: Path) -> Path:
    """In our own format, with the mean and std that stand where a file tells none."""
    preprocessing = replace(model.info.preprocessing, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    save(model, folder / "imagenet.safetensors", preprocessing=preprocessing)
    return folder / "imagenet.safetensors"


@pytest.fixture
def photos(class_folders) -> Path:
    """A dataset whose validation part has photos of each class."""
    class_folders("photos/train")
    return class_folders("photos/val").parent


def test_classes_are_matched_by_name(swinv2, weights: Path, photos: Path) -> None:
    status, out, _ = swinv2("evaluate", "--weights", weights, "--data.path", photos, "--format", "json")
    top1, loss = judge(weights, photos / "val")
    results = json.loads(out)
    assert status == 0
    assert results["images"] == 12
    assert results["top1"] == pytest.approx(top1)
    assert results["loss"] == pytest.approx(loss, rel=1e-5)


def test_the_table_shows_percentages(swinv2, weights: Path, photos: Path) -> None:
    _, out, _ = swinv2("evaluate", "--weights", weights, "--data.path", photos)
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert rows["top1"] == f"{judge(weights, photos / 'val')[0]:.2%}"
    assert rows["images"] == "12"


def test_another_window_and_resolution(swinv2, weights: Path, photos: Path) -> None:
    for number, path in enumerate(sorted(photos.rglob("*.png"))):  # attention sees nothing in one colour
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    given = ("--window-size", "3", "--image-size", "12x16")
    arguments = ("evaluate", "--weights", weights, "--data.path", photos, *given)
    results = json.loads(swinv2(*arguments, "--format", "json").out)
    top1, loss = judge(weights, photos / "val", 3, (12, 16))
    assert results["top1"] == pytest.approx(top1)
    assert results["loss"] == pytest.approx(loss, rel=1e-5)
    assert loss != pytest.approx(judge(weights, photos / "val", None, (12, 16))[1], rel=1e-3)
    rows = dict(line.split(maxsplit=1) for line in swinv2(*arguments).out.splitlines())
    assert (rows["image_size"], rows["window_size"]) == ("12x16", "3")
    refused = swinv2("evaluate", "--weights", weights, "--data.path", photos, "--window-size", "many")
    assert (refused.status, refused.out) == (2, "")
    assert "'many' is no size" in refused.err


@pytest.mark.parametrize("to", ["microsoft", "timm", "torchvision", "mmpretrain", "transformers"])
def test_weights_of_every_library_have_the_same_figures(
    swinv2, weights: Path, photos: Path, tmp_path: Path, to: str
) -> None:
    """With all that the file itself may not tell."""
    model, other = load(weights), tmp_path / "other.pth"
    save(model, other, to=to)
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(model.info.classes))
    given = ("--classes", classes, "--trained-window-size", "2", "--image-size", "8", "--format", "json")
    own, same = (
        json.loads(swinv2("evaluate", "--weights", path, "--data.path", photos, *given).out)
        for path in (save_as_imagenet(model, tmp_path), other)
    )
    assert same["loss"] == pytest.approx(own["loss"], rel=1e-6)
    assert same["top1"] == own["top1"]


def test_a_missing_window_is_asked_for_as_an_option(swinv2, weights: Path, photos: Path, tmp_path: Path) -> None:
    save(load(weights), tmp_path / "timm.pth", to="timm")
    given = ("--data.path", photos, "--image-size", "8", "--window-size", "2")
    status, _, err = swinv2("evaluate", "--weights", tmp_path / "timm.pth", *given)
    assert status == 2
    assert "give it with --trained-window-size, such as 8" in err


def test_unreadable_files_are_counted_or_refused(swinv2, weights: Path, photos: Path) -> None:
    (photos / "val" / "cat" / "0.png").write_bytes(b"")
    arguments = ("evaluate", "--weights", weights, "--data.path", photos, "--format", "json")
    _, out, err = swinv2(*arguments)
    assert (json.loads(out)["images"], json.loads(out)["skipped"]) == (11, 1)
    assert "0.png" in err
    (photos / "val" / "cat" / "notes.txt").write_text("")
    (photos / "train" / "cat" / "notes.txt").write_text("")
    assert json.loads(swinv2(*arguments).out)["skipped"] == 2
    (photos / "val" / "cat" / "notes.txt").unlink()
    for option in (["--data.strict", "true"], ["--strict"]):
        strict = swinv2(*arguments, *option)
        assert strict.status == 2
        assert "0.png" in strict.err


def test_the_confusion_matrix_on_request_replaces_nothing(swinv2, weights: Path, photos: Path, tmp_path: Path) -> None:
    picture = tmp_path / "confusion.png"
    arguments = ("evaluate", "--weights", weights, "--data.path", photos, "--confusion", picture)
    assert f"wrote {picture}" in swinv2(*arguments).err
    with Image.open(picture) as image:
        assert image.format == "PNG"
    refused = swinv2(*arguments)
    assert (refused.status, refused.out) == (2, "")
    assert "--overwrite" in refused.err
    assert swinv2(*arguments, "--overwrite").status == 0


def test_unknown_classes_and_files_are_refused(swinv2, save_weights, photos: Path, tmp_path: Path) -> None:
    unknown = swinv2("evaluate", "--weights", save_weights("cat", "dog"), "--data.path", photos)
    assert unknown.status == 2
    assert "'owl'" in unknown.err
    assert swinv2("evaluate", "--weights", tmp_path / "none", "--data.path", photos).status == 2
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"not weights")
    assert swinv2("evaluate", "--weights", other, "--data.path", photos).status == 2


def test_a_matrix_of_too_many_classes_is_not_promised(
    swinv2, weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swinv2.tasks.metrics.MOST_CLASSES_OF_MATRIX", 3)
    picture = tmp_path / "confusion.png"
    status, out, err = swinv2("evaluate", "--weights", weights, "--data.path", photos, "--confusion", picture)
    assert status == 2
    assert "top1" in out
    assert "4 classes are too many" in err


def test_the_data_must_be_named(swinv2, weights: Path) -> None:
    status, _, err = swinv2("evaluate", "--weights", weights)
    assert status == 2
    assert "there is no data.path" in err


def test_batches_have_an_image_or_more(swinv2, weights: Path, photos: Path) -> None:
    status, out, err = swinv2("evaluate", "--weights", weights, "--data.path", photos, "--batch-size", 0)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "batch_size" in err


def test_class_folders_are_measured_in_part_or_all(swinv2, weights: Path, class_folders) -> None:
    photos = class_folders()
    arguments = ("evaluate", "--weights", weights, "--data.path", photos, "--format", "json")
    part, whole = swinv2(*arguments), swinv2(*arguments, "--split", "all")
    assert json.loads(part.out)["images"] == 3
    assert f"the 20% of {photos} that training holds out: --split all measures" in part.err
    assert json.loads(whole.out)["images"] == 12
    assert json.loads(whole.out)["top1"] == pytest.approx(judge(weights, photos)[0])
    assert whole.err == ""


def test_the_split_of_training_is_the_default(swinv2, recipe: Path, class_folders, tmp_path: Path) -> None:
    photos = class_folders(counts={"cat": 10, "dog": 10})
    division = ("--data.val_fraction", "0.5", "--data.split_seed", "3")
    assert swinv2("train", recipe, "--data.path", photos, *division, "--out", tmp_path / "run").status == 0
    best = tmp_path / "run" / "best.safetensors"
    arguments = ("evaluate", "--weights", best, "--data.path", photos, "--format", "json")
    default, given = (json.loads(swinv2(*arguments, *options).out) for options in ((), division))
    assert default == given
    assert default["images"] == 10
    assert default["loss"] == pytest.approx(min(row["val_loss"] for row in RunFolder(tmp_path / "run").rows), abs=0.2)
    assert json.loads(swinv2(*arguments, "--data.val_fraction", "0.1").out)["images"] == 2


def test_names_are_the_same_however_accents_are_encoded(swinv2, save_weights, class_folders) -> None:
    weights = save_weights("cafe\u0301", "$x$")
    photos = class_folders(counts={"caf\u00e9": 2, "$x$": 2})
    picture = photos.parent / "confusion.png"
    arguments = ("--data.path", photos, "--split", "all", "--confusion", picture)
    assert swinv2("evaluate", "--weights", weights, *arguments).status == 0
    assert picture.exists()


def test_a_single_class_can_be_measured(swinv2, save_weights, class_folders) -> None:
    photos = class_folders(counts={"cat": 5})
    status, out, _ = swinv2("evaluate", "--weights", save_weights("cat"), "--data.path", photos, "--split", "all")
    assert status == 0
    assert "100.00%" in out

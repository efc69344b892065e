import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from swinv2.checkpoint import native
from swinv2.data.transforms import eval_transform


def judge(weights: Path, photos: Path) -> tuple[float, float]:
    """Top-1 and loss of all photos, one by one."""
    loaded = native.load(weights)
    transform, right, loss = eval_transform(loaded.preprocessing), 0, 0.0
    paths = sorted(photos.glob("*/*.png"))
    for path in paths:
        with torch.inference_mode(), Image.open(path) as image:
            logits = loaded.model(transform(image)[None]).log_softmax(1)[0]
        label = loaded.classes.index(path.parent.name)
        right += int(logits.argmax() == label)
        loss -= float(logits[label])
    return right / len(paths), loss / len(paths)


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


def test_unreadable_files_are_counted_or_refused(swinv2, weights: Path, photos: Path) -> None:
    (photos / "val" / "cat" / "0.png").write_bytes(b"")
    arguments = ("evaluate", "--weights", weights, "--data.path", photos, "--format", "json")
    _, out, err = swinv2(*arguments)
    assert (json.loads(out)["images"], json.loads(out)["skipped"]) == (11, 1)
    assert "0.png" in err
    strict = swinv2(*arguments, "--data.strict", "true")
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

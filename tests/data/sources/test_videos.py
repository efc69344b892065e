from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from swinv2.data.image import UnreadableImage
from swinv2.data.options import DataOptions
from swinv2.data.sources import ImageSource, open_split
from swinv2.data.sources.videos import open_videos

Folders = Callable[..., Path]


def opened(path: Path | str, split: str = "all", **options: object) -> ImageSource:
    return open_videos(DataOptions(path=str(path), **options), split)


def labelled(source: ImageSource) -> dict[str, str]:
    """Class of each video by the name of its file."""
    return {Path(source.name(i)).name: source.classes[label] for i, label in enumerate(source.labels)}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Make files with the names of videos: finding them decodes nothing."""

    def make(counts: Mapping[str, int], root: str = "videos") -> Path:
        for name, count in counts.items():
            (tmp_path / root / name).mkdir(parents=True)
            for number in range(count):
                (tmp_path / root / name / f"{name}{number}.mp4").touch()
        return tmp_path / root

    return make


def listed(root: Path, files: Mapping[str, str]) -> Path:
    """Write list files, whose videos need not be there."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_class_folders_are_divided(folders: Folders) -> None:
    root = folders({"run": 10, "jump": 5})
    train, val = opened(root, "train"), opened(root, "val")
    assert train.classes == val.classes == ("jump", "run")
    assert Counter(val.labels) == {0: 1, 1: 2}
    assert {**labelled(train), **labelled(val)} == {
        f"{name}{i}.mp4": name for name, count in (("run", 10), ("jump", 5)) for i in range(count)
    }
    assert Path(str(train.raw(0))).is_file()


def test_split_folders_are_taken_whole(folders: Folders) -> None:
    folders({"run": 3, "jump": 2}, "kinetics/train")
    root = folders({"run": 1, "jump": 2}, "kinetics/val").parent
    assert Counter(opened(root, "train").labels) == {0: 2, 1: 3}
    assert Counter(opened(root, "val").labels) == {0: 2, 1: 1}


def test_disagreeing_class_folders_are_refused(folders: Folders) -> None:
    folders({"run": 3, "jump": 2}, "kinetics/train")
    root = folders({"run": 1}, "kinetics/val").parent
    with pytest.raises(ValueError, match="differ in jump"):
        opened(root, "train")


def test_other_files_are_listed_or_refused(folders: Folders) -> None:
    root = folders({"run": 3, "jump": 2})
    (root / "run" / "notes.txt").touch()
    (root / "run" / "photo.jpg").touch()
    assert opened(root).skipped == (
        f"{root}/run/notes.txt: not a video by its extension; remove it.",
        f"{root}/run/photo.jpg: not a video by its extension; remove it.",
    )
    with pytest.raises(UnreadableImage, match=r"notes\.txt"):
        opened(root, strict=True)
    (root / "sleep").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*sleep has no videos"):
        opened(root)


@pytest.mark.parametrize(
    "text",
    ["a b.mp4 run\nc.mp4 jump\nd/e.mp4 run\n", "path,label\na b.mp4,run\nc.mp4,jump\n\nd/e.mp4,run\n"],
    ids=["spaces", "commas"],
)
@pytest.mark.parametrize("name", ["all.txt", "all.csv"])
def test_a_list_of_paths_and_names(tmp_path: Path, text: str, name: str) -> None:
    listed(tmp_path, {name: text})
    source = opened(tmp_path / name)
    assert source.classes == ("jump", "run")
    assert labelled(source) == {"a b.mp4": "run", "c.mp4": "jump", "e.mp4": "run"}
    assert source.name(2) == str(tmp_path / "d" / "e.mp4")


def test_lists_of_numbers_are_parts(tmp_path: Path) -> None:
    """As other libraries list Kinetics: PATH NUMBER."""
    root = listed(tmp_path, {"k400_train_list.txt": "a.mp4 0\nb.mp4 2\n", "k400_val_list.txt": "c.mp4 1\n"})
    assert opened(root, "train").classes == ("0", "1", "2")
    assert (list(opened(root, "train").labels), list(opened(root, "val").labels)) == ([0, 2], [1])
    listed(root, {"classes.txt": "run\njump\nsleep\n"})
    assert labelled(opened(root, "train")) == {"a.mp4": "run", "b.mp4": "sleep"}
    assert labelled(opened(root, "val")) == {"c.mp4": "jump"}


def test_classes_of_lists_must_agree(tmp_path: Path) -> None:
    root = listed(tmp_path, {"train.csv": "a.mp4,run\nb.mp4,jump\n", "val.csv": "c.mp4,fly\n"})
    assert opened(root, "train").classes == ("jump", "run")
    with pytest.raises(ValueError, match=r"class 'fly' of c\.mp4 in .*val\.csv is none of the 2 classes .jump, run"):
        opened(root, "val")
    listed(root, {"classes.txt": "fly\nrun\njump\n"})
    assert labelled(opened(root, "val")) == {"c.mp4": "fly"}
    listed(root, {"train.csv": "a.mp4,7\nb.mp4,1\n"})
    with pytest.raises(ValueError, match=r"class '7' of a\.mp4"):
        opened(root, "train")


KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_the_layout_of_kinetics(tmp_path: Path) -> None:
    """Annotations beside the videos, whose names tell source and seconds; of those on the web some are gone."""
    rows = "riding a bike,-aB_c,5,15,train\nyoga,xyz,100,110,train\nyoga,gone,0,10,train\n"
    root = listed(
        tmp_path / "k400",
        {
            "annotations/train.csv": KINETICS + rows,
            "annotations/val.csv": KINETICS + "yoga,v,1,11,val\n",
            "annotations/test.csv": "youtube_id,time_start,time_end,split\nt,0,10,test\n",
            "train/-aB_c_000005_000015.mp4": "",
            "train/yoga/xyz_000100_000110.mkv": "",
            "val/v_000001_000011.mp4": "",
        },
    )
    train = opened(root, "train")
    assert train.classes == ("riding a bike", "yoga")
    assert labelled(train) == {"-aB_c_000005_000015.mp4": "riding a bike", "xyz_000100_000110.mkv": "yoga"}
    assert train.skipped == (
        f"{root}/annotations/train.csv: 1 of its 3 videos are not below {root}, as gone_000000_000010; get them, or "
        "leave them out.",
    )
    assert labelled(opened(root, "val")) == {"v_000001_000011.mp4": "yoga"}
    assert labelled(opened(root / "annotations" / "val.csv")) == {"v_000001_000011.mp4": "yoga"}
    with pytest.raises(UnreadableImage, match="1 of its 3 videos"):
        opened(root, "train", strict=True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lists no videos: write PATH LABEL"),
        ("a.mp4\n", r"has the line 'a\.mp4', but a line must be PATH LABEL"),
        ("a.mp4,1,2\n", r"has the line 'a\.mp4,1,2'"),
        ("a.mp4,\n", "must be PATH LABEL"),
        ("a.mp4 99999\nb.mp4 1\n", "label 99999 is too large"),
        (KINETICS + "yoga,v,one,11,val\n", "without label, youtube_id, time_start or time_end"),
        (KINETICS + "yoga,v,1,11,val\n", "lists no video that is there"),
    ],
)
def test_lists_that_are_none_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    root = listed(tmp_path, {"train.csv": text})
    with pytest.raises(ValueError, match=sentence) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


def test_what_is_no_dataset_of_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere has no"):
        opened(tmp_path / "nowhere")
    (tmp_path / "video.mp4").touch()
    with pytest.raises(ValueError, match=r"video\.mp4 is no list of videos"):
        opened(tmp_path / "video.mp4")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"list\.txt is no text of lines"):
        opened(tmp_path / "list.txt")
    with pytest.raises(ValueError, match=r"data\.format shards has no videos"):
        opened(tmp_path, format="shards")
    with pytest.raises(ValueError, match="has no class folders: put the videos of each class"):
        opened(tmp_path)


def test_open_split_reads_the_format_too(folders: Folders) -> None:
    root = folders({"run": 3, "jump": 2})
    source = open_split(DataOptions(path=str(root), format="videos"), "all")
    assert labelled(source) == labelled(opened(root))

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from swinv2.data.image import UnreadableImage
from swinv2.data.options import DataOptions, Split
from swinv2.data.sources import ImageSource, open_split

MakeFolders = Callable[..., Path]


def opened(root: Path, split: Split, **options: object) -> ImageSource:
    return open_split(DataOptions(path=str(root), **options), split)


def names(source: ImageSource, root: Path) -> list[str]:
    return [str(Path(source.name(index)).relative_to(root)) for index in range(len(source))]


def test_class_folders_are_divided(class_folders: MakeFolders) -> None:
    root = class_folders(counts={"owl": 10, "cat": 5, "dog": 2})
    train, val = opened(root, "train"), opened(root, "val")
    assert train.classes == val.classes == ("cat", "dog", "owl")
    assert Counter(val.labels) == {0: 1, 1: 1, 2: 2}
    assert len(set(names(train, root) + names(val, root))) == 17
    for source in (train, val):
        assert [Path(name).parts[0] for name in names(source, root)] == [source.classes[i] for i in source.labels]


def test_image_is_the_one_named(class_folders: MakeFolders) -> None:
    source = opened(class_folders(), "train")
    for index in range(len(source)):
        with Image.open(source.name(index)) as image:
            assert source.image(index).tobytes() == image.tobytes()


@pytest.mark.parametrize("val", ["val", "valid", "validation", "test"])
def test_split_folders_are_taken_whole(class_folders: MakeFolders, val: str) -> None:
    class_folders("photos/train")
    root = class_folders(f"photos/{val}", {"cat": 2, "dog": 1, "owl": 1}).parent
    assert Counter(opened(root, "train").labels) == {0: 5, 1: 4, 2: 3}
    assert Counter(opened(root, "val").labels) == {0: 2, 1: 1, 2: 1}


def test_train_folder_alone_is_divided(class_folders: MakeFolders) -> None:
    root = class_folders("photos/train").parent
    assert len(opened(root, "train")) + len(opened(root, "val")) == 12
    assert Counter(opened(root, "val").labels) == {0: 1, 1: 1, 2: 1}


def test_validation_folder_alone_can_only_be_evaluated(class_folders: MakeFolders) -> None:
    root = class_folders("photos/test").parent
    assert len(opened(root, "val")) == 12
    with pytest.raises(ValueError, match="only a validation part"):
        opened(root, "train")


def test_class_may_be_called_train(class_folders: MakeFolders) -> None:
    assert opened(class_folders(counts={"bus": 2, "train": 2}), "train").classes == ("bus", "train")


def test_unlabelled_test_folder_does_not_matter(class_folders: MakeFolders) -> None:
    class_folders("photos/test", {"unknown": 3})
    class_folders("photos/train")
    root = class_folders("photos/val").parent
    assert opened(root, "train").classes == ("cat", "dog", "owl")


def test_disagreeing_split_folders_are_refused(class_folders: MakeFolders) -> None:
    class_folders("photos/train")
    root = class_folders("photos/val", {"cat": 2, "dog": 1}).parent
    for split in ("train", "val"):
        with pytest.raises(ValueError, match="differ in owl"):
            opened(root, split)


def test_nested_and_linked_images_count_and_hidden_ones_do_not(class_folders: MakeFolders) -> None:
    root = class_folders(counts={"cat": 2, "dog": 2})
    image = root / "cat" / "0.png"
    for place in ("cat/young/1/a.JPG", "cat/.thumbnails/a.png", "cat/.a.png", ".cache/a.png"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.open(image).save(root / place)
    (root / "dog" / "linked").symlink_to(root / "cat" / "young")
    found = names(opened(root, "train", val_fraction=0.01), root) + names(opened(root, "val", val_fraction=0.01), root)
    assert sorted(found) == [
        "cat/0.png",
        "cat/1.png",
        "cat/young/1/a.JPG",
        "dog/0.png",
        "dog/1.png",
        "dog/linked/1/a.JPG",
    ]


def test_other_files_are_listed_or_refused(class_folders: MakeFolders) -> None:
    root = class_folders()
    (root / "dog" / "notes.txt").write_text("sit")
    source = opened(root, "train")
    assert source.skipped == (f"{root}/dog/notes.txt: not an image by its extension; remove it.",)
    assert not any("notes" in name for name in names(source, root))
    with pytest.raises(UnreadableImage, match=r"dog/notes\.txt"):
        opened(root, "train", strict=True)


def test_images_without_class_folders_are_refused(class_folders: MakeFolders) -> None:
    with pytest.raises(ValueError, match=r"photos/cat has no class folders"):
        opened(class_folders() / "cat", "train")


def test_empty_class_folder_is_named(class_folders: MakeFolders) -> None:
    root = class_folders()
    (root / "emu").mkdir()
    (root / "emu" / "notes.txt").write_text("none yet")
    with pytest.raises(ValueError, match=r"class folder .*photos/emu has no images"):
        opened(root, "train")


def test_single_class_cannot_be_trained_on_but_evaluated(class_folders: MakeFolders) -> None:
    root = class_folders(counts={"cat": 5})
    with pytest.raises(ValueError, match="single class 'cat'"):
        opened(root, "train")
    assert len(opened(root, "val")) == 1


def test_one_image_a_class_cannot_be_divided(class_folders: MakeFolders) -> None:
    with pytest.raises(ValueError, match="one image a class"):
        opened(class_folders(counts={"cat": 1, "dog": 1}), "train")

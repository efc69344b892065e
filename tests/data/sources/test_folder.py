from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from swinv2.data.image import UnreadableImage
from swinv2.data.options import Choice, DataOptions
from swinv2.data.sources import ImageSource, open_split

MakeFolders = Callable[..., Path]


def opened(root: Path, split: Choice, **options: object) -> ImageSource:
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


@pytest.mark.parametrize(
    ("train", "val"),
    [*(("train", val) for val in ("val", "valid", "validation", "test")), ("Train", "TEST"), ("training", "Testing")],
)
def test_split_folders_are_taken_whole(class_folders: MakeFolders, train: str, val: str) -> None:
    class_folders(f"photos/{train}")
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


def test_all_are_the_images_of_every_part(class_folders: MakeFolders) -> None:
    whole = opened(class_folders("whole", {"cat": 5, "dog": 5}), "all")
    assert (len(whole), Counter(whole.labels)) == (10, {0: 5, 1: 5})
    class_folders("photos/train", {"cat": 3, "dog": 2})
    root = class_folders("photos/val", {"cat": 1, "dog": 2}).parent
    source = opened(root, "all")
    assert sorted(names(source, root)) == sorted(names(opened(root, "train"), root) + names(opened(root, "val"), root))
    assert [Path(source.name(i)).parts[-2] for i in range(8)] == [source.classes[label] for label in source.labels]
    with Image.open(source.name(7)) as image:
        assert source.image(7).tobytes() == image.tobytes()
    with pytest.raises(IndexError):
        source.name(8)


def test_secret_test_images_are_ignored(class_folders: MakeFolders) -> None:
    """ROOT/train/CLASS/*, and ROOT/test/* without labels."""
    class_folders("photos/train")
    root = class_folders("photos/test", {".": 3}).parent
    assert len(opened(root, "train")) + len(opened(root, "val")) == 12


def test_folders_of_folders_are_refused_with_the_layouts(class_folders: MakeFolders) -> None:
    class_folders("photos/animals/good", {"cat": 2, "dog": 2})
    root = class_folders("photos/animals/bad", {"cat": 2, "dog": 2}).parent
    with pytest.raises(ValueError, match=r"folders of .*animals \(bad, good\) hold no images.*ROOT/train/CLASS"):
        opened(root, "train")


def test_loose_images_are_listed_or_refused(class_folders: MakeFolders) -> None:
    root = class_folders()
    (root / "cat" / "0.png").rename(root / "stray.png")
    (root / "README.txt").write_text("my photos")
    assert opened(root, "train").skipped == (f"{root}/stray.png: in no class folder; move it into one.",)
    with pytest.raises(UnreadableImage, match=r"stray\.png"):
        opened(root, "train", strict=True)


def test_a_link_to_a_folder_above_ends(class_folders: MakeFolders) -> None:
    root = class_folders(counts={"cat": 2, "dog": 2})
    (root / "cat" / "up").symlink_to(root / "cat")
    assert len(opened(root, "all")) == 4


def test_a_stray_file_that_decides_the_format_is_named(class_folders: MakeFolders) -> None:
    root = class_folders()
    (root / "extra.tar").write_text("something else")
    with pytest.raises(
        ValueError, match=r"read as shards because of \*\.tar; --data\.format folder reads class"
    ) as caught:
        opened(root, "train")
    assert "\n" not in str(caught.value)
    assert len(opened(root, "all", format="folder")) == 12


def test_classes_that_are_numbers_are_in_their_order(class_folders: MakeFolders) -> None:
    """ImageNet-V2's folders 0 to 999."""
    root = class_folders(counts={str(number): 1 for number in (10, 9, 0)})
    assert opened(root, "all").classes == ("0", "9", "10")

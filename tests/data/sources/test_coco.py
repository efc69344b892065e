from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as pycoco
from pycocotools.coco import COCO

from swinv2.data.detection_options import CocoLayout, DetectionDataOptions
from swinv2.data.image import UnreadableImage
from swinv2.data.options import Choice
from swinv2.data.sources.coco import CocoSource, open_coco

MakeCoco = Callable[..., Path]
TRIANGLE = [[2.0, 2.0, 12.0, 2.0, 2.0, 12.0]]


def opened(root: Path, split: Choice = "train", **options: Any) -> CocoSource:
    layout = CocoLayout(**{name: options.pop(name) for name in vars(CocoLayout()) if name in options})
    return open_coco(DetectionDataOptions(path=str(root), layout=layout, **options), split)


def box(image: int = 1, category: int = 3, bbox: Any = (2, 3, 10, 8), **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


@pytest.fixture
def whole(coco_file: MakeCoco) -> Callable[..., CocoSource]:
    """The source of a file, all images of it."""

    def make(**content: Any) -> CocoSource:
        path = coco_file(**content)
        return opened(path.parent, "all")

    return make


def test_objects_are_those_of_the_file(whole: Callable[..., CocoSource]) -> None:
    source = whole(
        images={"b.png": (40, 30), "a.png": (20, 10)},
        annotations=[
            box(2, 7, (1, 2, 3, 4), area=9.5),
            box(1, 3, (0.5, 1.25, 10, 8)),
            box(2, 3, (5, 5, 5, 5), iscrowd=1),
        ],
    )
    assert source.classes == ("car", "owl")
    assert source.category_ids == (3, 7)
    assert source.labels == [1, 2]
    assert [Path(source.name(index)).name for index in range(2)] == ["b.png", "a.png"]
    first, second = source.target(0), source.target(1)
    assert first["boxes"].tolist() == [[0.5, 1.25, 10.5, 9.25]]
    assert (first["area"].tolist(), first["size"], first["image_id"]) == ([80.0], (30, 40), 1)
    assert second["boxes"].tolist() == [[1, 2, 4, 6], [5, 5, 10, 10]]
    assert (second["labels"].tolist(), second["iscrowd"].tolist()) == ([2, 1], [0, 1])
    assert second["area"].tolist() == [9.5, 25]
    assert source.target(1, crowd=False)["labels"].tolist() == [2]
    types = {name: value.dtype for name, value in first.items() if isinstance(value, torch.Tensor)}
    assert types == {"boxes": torch.float32, "labels": torch.int64, "area": torch.float32, "iscrowd": torch.int64}


def test_categories_are_in_the_order_of_their_ids(whole: Callable[..., CocoSource]) -> None:
    source = whole(categories={90: "owl", 4: "cat", 17: "dog"}, annotations=[box(category=n) for n in (90, 17, 4)])
    assert source.classes == ("cat", "dog", "owl")
    assert source.target(0)["labels"].tolist() == [3, 2, 1]
    assert [source.category_ids[label - 1] for label in (3, 2, 1)] == [90, 17, 4]


def test_masks_are_those_of_pycocotools(coco_file: MakeCoco) -> None:
    """Polygons, several of them, runs, and a code."""
    random = np.random.default_rng(0).random((30, 40)) < 0.4
    code = pycoco.encode(np.asfortranarray(random.astype(np.uint8)))
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(random.T.ravel().astype(np.int8), prepend=0)), [1200]]))
    stored: list[Any] = [
        TRIANGLE,
        [*TRIANGLE, [20.5, 3, 35, 3, 45, 28.2, 20, 25]],
        {"size": [30, 40], "counts": runs.tolist()},
        {"size": [30, 40], "counts": code["counts"].decode()},
    ]
    path = coco_file(annotations=[box(segmentation=each) for each in stored])
    coco = COCO(str(path))
    ours = opened(path.parent, "all").target(0, masks=True)["masks"]
    assert ours.dtype == torch.uint8
    assert np.array_equal(ours.numpy(), np.stack([coco.annToMask(coco.anns[number]) for number in range(1, 5)]))
    assert ours.flatten(1).any(1).all()


LAYOUTS = [
    ("annotations/instances_train2017.json", "train2017"),
    ("annotations/instances_train2017.json", "images/train2017"),
    ("annotations/train.json", "train"),
    ("train_instances.json", "train/images"),
    ("instances_train.json", "images"),
    ("train.json", "train"),
    ("train.json", "."),
    ("train/_annotations.coco.json", "train"),
]


@pytest.mark.parametrize(("file", "folder"), LAYOUTS)
def test_layouts_are_found(coco_file: MakeCoco, tmp_path: Path, file: str, folder: str) -> None:
    coco_file(file, folder, {"a.png": (40, 30), "b.png": (20, 20)}, [box(), box(2)])
    val = [each.replace("train", "val") for each in (file, folder)]
    coco_file(*val, {"c.png": (10, 10)}, [box(bbox=(0, 0, 5, 5))])
    (tmp_path / "annotations").mkdir(exist_ok=True)
    for name in ("captions_val2017", "person_keypoints_train2017"):
        (tmp_path / "annotations" / f"{name}.json").write_text("{}")
    train, validation, both = (opened(tmp_path, split) for split in ("train", "val", "all"))
    assert [train.name(n) for n in range(2)] == [f"{(tmp_path / folder)}/{name}" for name in ("a.png", "b.png")]
    assert validation.image(0).size == (10, 10)
    assert [both.target(n)["boxes"].tolist() for n in range(3)] == [
        *(train.target(n)["boxes"].tolist() for n in range(2)),
        [[0, 0, 5, 5]],
    ]


def test_files_and_folders_can_be_named(coco_file: MakeCoco, tmp_path: Path) -> None:
    coco_file("x/labels.json", "photos", annotations=[box()])
    coco_file("y/others.json", "pictures", {"b.png": (10, 10)}, [box()])
    named = {"train": "x/labels.json", "val": str(tmp_path / "y" / "others.json")}
    with pytest.raises(ValueError, match=r"there is no a\.png of .*labels\.json in .*layout\.train_images"):
        opened(tmp_path, "train", **named)
    folders = {"train_images": "photos", "val_images": "pictures"}
    assert opened(tmp_path, "train", **named, **folders).image(0).size == (40, 30)
    assert opened(tmp_path, "val", **named, **folders).image(0).size == (10, 10)


def test_a_single_file_is_divided(coco_file: MakeCoco) -> None:
    path = coco_file("all.json", "images", {f"{n}.png": (40, 30) for n in range(10)}, [box(n + 1) for n in range(10)])
    train, val = opened(path, "train"), opened(path, "val")
    names = [source.name(n) for source in (train, val) for n in range(len(source))]
    assert (len(train), len(val), len(set(names))) == (8, 2, 10)
    other = opened(path, "val", split_seed=1)
    assert [other.name(n) for n in range(2)] != names[8:]
    assert len(opened(path.parent, "val")) == 2


def test_ambiguous_files_are_named(coco_file: MakeCoco, tmp_path: Path) -> None:
    for year in (2014, 2017):
        coco_file(f"annotations/instances_train{year}.json", f"train{year}", annotations=[box()])
    with pytest.raises(
        ValueError, match=r"instances_train2014\.json, instances_train2017\.json: name one with layout\.t"
    ):
        opened(tmp_path)


def test_a_folder_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no JSON file of instances: name one with layout\.train"):
        opened(tmp_path)
    with pytest.raises(ValueError, match=r"no data\.path"):
        open_coco(DetectionDataOptions(), "train")
    with pytest.raises(ValueError, match=r"there is no file .*missing\.json"):
        opened(tmp_path, train="missing.json")


def test_validation_alone_can_only_be_measured(coco_file: MakeCoco) -> None:
    path = coco_file("val.json", annotations=[box()])
    assert len(opened(path.parent, "val")) == 1
    with pytest.raises(ValueError, match="only validation images"):
        opened(path.parent, "train")


def test_boxes_without_area_and_outside_are_left_out_and_counted(whole: Callable[..., CocoSource]) -> None:
    """An image is 40 x 30 pixels."""
    bad = [(5, 5, 0, 3), (5, 5, 3, -1), (50, 3, 5, 5), (-9, 3, 9, 5), (3, 30, 5, 5)]
    source = whole(annotations=[box(), *(box(bbox=each) for each in bad), box(bbox=(30, -4, 20, 10))])
    assert source.target(0)["boxes"].tolist() == [[2, 3, 12, 11], [30, 0, 40, 6]]
    assert source.labels == [2]
    assert [line.partition(": ")[2] for line in source.remarks] == [
        "2 boxes without area were left out, the first is 2.",
        "3 boxes outside their image were left out, the first is 4.",
        "1 boxes reach beyond their image and are cut in training, the first is 7.",
    ]
    truth = source.ground_truth()["annotations"]
    assert truth[1]["bbox"] == [30, -4, 20, 10]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bbox": None}, r"annotation 1 of \S*train\.json has bbox None, not four numbers"),
        ({"bbox": [1, 2, 3]}, r"has bbox \[1, 2, 3\], not four"),
        ({"bbox": [1, 2, float("nan"), 3]}, r"has bbox \[1, 2, nan, 3\]"),
        ({"bbox": [1, 2, "3", 3]}, "not four numbers"),
        ({"category_id": 4}, "annotation 1 .*has category 4, which the file does not list"),
        ({"category_id": None}, "has category None"),
        (
            {"segmentation": {"size": [40, 30], "counts": "xx"}},
            r"height and width \[40, 30\] in an image of \[30, 40\]",
        ),
        ({"segmentation": {"counts": "xx"}}, "height and width None"),
        ({"segmentation": [["a"] * 6]}, "neither polygons nor a run-length code"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "neither polygons nor a run-length code"),
        ({"segmentation": "xx"}, "neither polygons nor a run-length code"),
    ],
)
def test_wrong_annotations_are_named(whole: Callable[..., CocoSource], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        whole(annotations=[box() | wrong])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": {}}, "no list of images"),
        ({"images": ["a.png"]}, "no list of images"),
        ({"annotations": None}, "no list of annotations"),
        ({"categories": []}, "has no categories"),
        ({"categories": [{"id": 1}]}, "category 1 of .* has no name"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories of id 1"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "or name 'a'"),
        ({"images": []}, "has no images"),
        ({"images": [{"id": "x", "file_name": "a.png", "width": 4, "height": 3}]}, "id 'x', which is no whole number"),
        ({"images": [{"id": 1, "width": 4, "height": 3}]}, "image 1 of .* has no file_name"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 4}]}, "image 1 of .* has height None"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 0}]}, "is 4x0 pixels"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 3}] * 2}, "two images of id 1"),
    ],
)
def test_wrong_files_are_refused_in_a_sentence(
    whole: Callable[..., CocoSource], content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        whole(changes=content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null"])
def test_what_is_no_coco_file_is_named(coco_file: MakeCoco, text: str) -> None:
    path = coco_file()
    path.write_text(text)
    with pytest.raises(ValueError, match=r"train\.json (is no JSON file|has no list of images)"):
        opened(path)


def test_ids_of_annotations_may_repeat_and_images_be_unknown(whole: Callable[..., CocoSource]) -> None:
    source = whole(annotations=[box(id=5), box(id=5, bbox=(1, 1, 2, 2)), box(99), box(id=None), box(image=None)])
    assert source.labels == [3]
    assert [line.partition(": ")[2] for line in source.remarks] == [
        "2 annotations of images that are not listed were left out, the first is 3."
    ]


def test_polygons_of_two_points_become_boxes(whole: Callable[..., CocoSource]) -> None:
    source = whole(annotations=[box(segmentation=[[2, 3, 12, 3]]), box(segmentation=[*TRIANGLE, [1, 2, 3, 4, 5]])])
    masks = source.target(0, masks=True)["masks"]
    assert masks[0].sum() == 80
    assert masks[0, 3:11, 2:12].all()
    assert 40 < masks[1].sum() < 60
    assert "1 masks have no polygon of three points or more and became boxes, the first is 1." in source.remarks[0]


def test_a_missing_mask_is_named_where_masks_are_wanted(whole: Callable[..., CocoSource]) -> None:
    source = whole(annotations=[box(segmentation=TRIANGLE), box(segmentation=[])])
    assert len(source.target(0)["boxes"]) == 2
    for ask in (source.check_masks, lambda: source.target(0, masks=True), lambda: source.ground_truth(masks=True)):
        with pytest.raises(ValueError, match=r"annotation 2 of \S*train\.json has no segmentation"):
            ask()


def test_a_damaged_mask_is_named(whole: Callable[..., CocoSource]) -> None:
    source = whole(annotations=[box(segmentation={"size": [30, 40], "counts": "05"})])
    with pytest.raises(ValueError, match=r"annotation 1 of .* has a mask that has 5 pixels.*, where 30 x 40 are 1200"):
        source.target(0, masks=True)


def test_missing_images_are_listed_or_refused(coco_file: MakeCoco, tmp_path: Path) -> None:
    path = coco_file(images={"a.png": (40, 30), "b.png": (40, 30)}, annotations=[box(), box(2)])
    (tmp_path / "images" / "a.png").unlink()
    source = opened(path.parent, "all")
    assert source.skipped == (f"{tmp_path}/images/a.png: no such file; restore it, or remove it from {path}.",)
    assert (len(source), source.image_id(0), source.labels) == (1, 2, [1])
    assert [image["id"] for image in source.ground_truth()["images"]] == [0]
    with pytest.raises(UnreadableImage, match=r"a\.png: no such file"):
        opened(path.parent, "all", strict=True)


@pytest.mark.parametrize("size", [(30, 40), (1, 1), (41, 30)])
def test_an_image_of_another_size_is_refused(coco_file: MakeCoco, tmp_path: Path, size: tuple[int, int]) -> None:
    source = opened(coco_file(annotations=[box()]).parent, "all")
    Image.new("RGB", size).save(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match=rf"a\.png is {size[0]}x{size[1]} pixels, but .*train\.json says 40x30"):
        source.image(0)


def test_images_without_objects_are_trained_on_if_asked(coco_file: MakeCoco, tmp_path: Path) -> None:
    """A crowd alone is nothing to learn."""
    images = {f"{n}.png": (40, 30) for n in range(4)}
    coco_file("train.json", "images", images, [box(2), box(3, iscrowd=1)])
    coco_file("val.json", "images", images, [box(1)])
    assert [Path(opened(tmp_path).name(0)).name, len(opened(tmp_path))] == ["1.png", 1]
    assert "3 images without objects are not trained on; layout.empty true keeps them." in opened(tmp_path).remarks[0]
    assert len(opened(tmp_path, empty=True)) == 4
    assert len(opened(tmp_path, "val")) == 4
    target = opened(tmp_path, "val").target(3, masks=True)
    assert (target["boxes"].shape, target["masks"].shape) == ((0, 4), (0, 30, 40))


def test_no_object_at_all_is_nothing_to_train_on(coco_file: MakeCoco) -> None:
    path = coco_file(annotations=[box(iscrowd=1)])
    coco_file("val.json")
    with pytest.raises(ValueError, match=r"train\.json has no objects in its training images"):
        opened(path.parent, "train", empty=True)


@pytest.mark.parametrize("others", [{3: "car"}, {3: "car", 7: "cat"}, {3: "owl", 7: "car"}, {3: "car", 8: "owl"}])
def test_disagreeing_categories_are_refused(coco_file: MakeCoco, tmp_path: Path, others: dict[int, str]) -> None:
    coco_file("train.json", annotations=[box()])
    coco_file("val.json", categories=others)
    for split in ("train", "all"):
        with pytest.raises(ValueError, match=r"the categories of .*train\.json and .*val\.json differ in .*\(\d\)"):
            opened(tmp_path, split)
    assert len(opened(tmp_path, "val")) == 1


def test_very_many_objects(whole: Callable[..., CocoSource]) -> None:
    """More than fit a batch are drawn from; they keep their order."""
    boxes = [(n % 40, n // 40, 1, 1) for n in range(1200)]
    source = whole(annotations=[box(bbox=each, segmentation=[]) for each in boxes])
    assert len(source.target(0)["boxes"]) == 1200
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (source.target(0, most=1000)["boxes"] for _ in range(2))
    assert first.shape == second.shape == (1000, 4)
    assert not torch.equal(first, second)
    places = (first[:, 0] + 40 * first[:, 1]).tolist()
    assert places == sorted(set(places))


def test_an_image_of_one_pixel(whole: Callable[..., CocoSource]) -> None:
    source = whole(
        images={"a.png": (1, 1)}, annotations=[box(bbox=(0, 0, 1, 1), segmentation=[[0, 0, 1, 0, 1, 1, 0, 1]])]
    )
    assert source.image(0).size == (1, 1)
    assert source.target(0, masks=True)["masks"].tolist() == [[[1]]]


def test_a_subset_has_its_own_images_and_objects(coco_file: MakeCoco) -> None:
    path = coco_file(
        images={f"{n}.png": (40, 30) for n in range(4)}, annotations=[box(n, bbox=(n, n, 5, 5)) for n in (1, 3, 4, 4)]
    )
    source = opened(path.parent, "all").subset([3, 0])
    assert source.labels == [2, 1]
    assert [source.target(n)["boxes"][0, 0].item() for n in range(2)] == [4, 1]
    assert Counter(entry["image_id"] for entry in source.ground_truth()["annotations"]) == {0: 2, 1: 1}


def test_ground_truth_is_what_pycocotools_reads(coco_file: MakeCoco) -> None:
    path = coco_file(annotations=[box(segmentation=TRIANGLE), box(category=7, iscrowd=1, segmentation=TRIANGLE)])
    theirs, ours = COCO(str(path)), COCO()
    ours.dataset = opened(path.parent, "all").ground_truth(masks=True)
    ours.createIndex()
    for number in (1, 2):
        assert np.array_equal(ours.annToMask(ours.anns[number]), theirs.annToMask(theirs.anns[number]))
        assert ours.anns[number]["bbox"] == theirs.anns[number]["bbox"]
        assert ours.anns[number]["iscrowd"] == theirs.anns[number]["iscrowd"]
    assert [ours.cats[ours.anns[number]["category_id"]]["name"] for number in (1, 2)] == ["car", "owl"]


COUNTS = [
    ("bccd", "train", 205, 205, {"RBC": 2381, "WBC": 214, "Platelets": 209}),
    ("bccd", "val", 87, 87, {"RBC": 967, "WBC": 87, "Platelets": 83}),
    ("camvid", "train", 367, 363, {"sign": 969, "car": 992, "pedestrian": 605, "cyclist": 145}),
    ("camvid", "val", 101, 101, {"sign": 252, "car": 137, "pedestrian": 144, "cyclist": 199}),
]


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "split", "images", "useful", "objects"), COUNTS)
def test_real_data_have_all_their_images_and_objects(
    real_data: Path, folder: str, split: Choice, images: int, useful: int, objects: dict[str, int]
) -> None:
    source = opened(real_data / folder, split, empty=True)
    assert (len(source), len(opened(real_data / folder, split))) == (images, useful if split == "train" else images)
    assert source.classes == tuple(objects)
    targets = [source.target(index) for index in range(len(source))]
    found = Counter(source.classes[label - 1] for target in targets for label in target["labels"].tolist())
    assert found == objects
    assert (source.remarks, source.skipped) == ((), ())
    height, width = targets[0]["size"]
    assert source.image(0).size == (width, height)


@pytest.mark.realdata
def test_real_masks_have_the_area_and_box_that_the_file_says(real_data: Path) -> None:
    source = opened(real_data / "camvid", "val")
    content = json.loads((real_data / "camvid" / "val_instances.json").read_text())
    source.check_masks()
    areas = Counter(entry["image_id"] for entry in content["annotations"])
    for index in range(0, len(source), 10):
        target = source.target(index, masks=True)
        assert len(target["masks"]) == areas[source.image_id(index)]
        assert target["masks"].sum((1, 2)).tolist() == target["area"].tolist()

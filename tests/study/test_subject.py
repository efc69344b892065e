from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from swinv2 import checkpoint
from swinv2.data.options import DataOptions
from swinv2.data.sources import open_split
from swinv2.model import create_model
from swinv2.study.base import Setting, Subject
from swinv2.study.subject import load, picture

SMALL = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "patch_size": (2, 2)}


def test_a_window_that_the_weights_do_not_tell_must_be_given(tmp_path: Path) -> None:
    model = create_model("swinv2_nano", image_size=16, window_size=4, num_classes=3, **SMALL)
    bare = str(tmp_path / "bare.pth")
    checkpoint.save(model, bare, to="timm")
    with pytest.raises(ValueError, match=f"^{bare} does not tell the window .*: give it with --trained-window-size"):
        load(Subject(weights=bare))
    assert load(Subject(weights=bare, trained_window_size=4)).config.trained_window_size[0] == (4, 4)


def test_the_image_is_of_the_data_as_they_are_read_and_split(class_folders: Callable[..., Path]) -> None:
    data = str(class_folders(counts={"cat": 8, "dog": 8}))
    asked, usual = ({"data.val_fraction": 0.9}, {})
    first, second = (picture(Setting(data=data, changes=changes))[0] for changes in (asked, usual))
    held_out = open_split(DataOptions(path=data, val_fraction=0.9), "val")
    assert first.tobytes() == held_out.image(0).tobytes() != second.tobytes()
    with pytest.raises(ValueError, match=r"has no \*\.tar file"):
        picture(Setting(data=data, changes={"data.format": "shards"}))

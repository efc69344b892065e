"""Fixtures that several parts' tests share; the GPU tests' bare machine imports this too, so imports stay light."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest

CLASSES = {"cat": 5, "dog": 4, "owl": 3}


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images: $SWINV2_TEST_DATA, else ../shared/data beside the repository."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SWINV2_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}: set SWINV2_TEST_DATA")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads only cost time where there is little to do."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def class_folders(tmp_path: Path) -> Callable[..., Path]:
    """Make ROOT/CLASS/NUMBER.png, each class of its own colour and each image of its own shade."""
    from PIL import Image

    def make(
        root: str | Path = "photos", counts: Mapping[str, int] = CLASSES, size: tuple[int, int] = (20, 16)
    ) -> Path:
        for label, (name, count) in enumerate(counts.items()):
            folder = tmp_path / root / name
            folder.mkdir(parents=True)
            for number in range(count):
                colour = [40, 40, 40]
                colour[label % 3] = 130 + 10 * number
                Image.new("RGB", size, tuple(colour)).save(folder / f"{number}.png")
        return tmp_path / root

    return make


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tests/toy.py, its job and its model known by their names."""
    import importlib

    from swinv2.tasks.models import MODELS
    from swinv2.train.job import JOBS

    monkeypatch.syspath_prepend(Path(__file__).parent)
    module = importlib.import_module("toy")
    monkeypatch.setitem(JOBS, "gray", "toy.GrayJob")
    monkeypatch.setitem(MODELS, module.Regressor.kind, "toy.Regressor")
    return module


@pytest.fixture
def coco_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a COCO file of images (name: width and height, or an entry of their own) and draw these images.

    Annotations need an image_id, a category_id and a bbox; None leaves a key out. `changes` replace whole lists.
    """
    import json

    from PIL import Image

    def make(
        file: str = "train.json",
        folder: str | None = "images",
        images: Mapping[str, tuple[int, int]] = {"a.png": (40, 30)},
        annotations: Sequence[Mapping[str, object]] = (),
        categories: Mapping[int, str] = {3: "car", 7: "owl"},
        changes: Mapping[str, object] = {},
    ) -> Path:
        entries = [
            {"id": number, "file_name": name, "width": size[0], "height": size[1]}
            for number, (name, size) in enumerate(images.items(), start=1)
        ]
        defaults = ({"id": n, "iscrowd": 0} | dict(each) for n, each in enumerate(annotations, start=1))
        kept = [{key: value for key, value in each.items() if value is not None} for each in defaults]
        named = [{"id": number, "name": name} for number, name in categories.items()]
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": entries, "annotations": kept, "categories": named, **changes}))
        for number, (name, size) in enumerate(images.items() if folder is not None else ()):
            image = tmp_path / str(folder) / name
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (40 + 20 * number, 90, 200)).save(image)
        return path

    return make


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The CPU, and a CUDA device under `make test-gpu`."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return str(request.param)


@pytest.fixture(scope="session")
def randomise():
    """Give every parameter of a model a random value, norms included: at their initial zeros a parity test proves
    nothing."""
    import torch

    def fill(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "logit_scale" in name:
                    parameter.uniform_(1.0, 3.0, generator=generator)
                elif parameter.ndim == 1 and name.endswith("weight"):
                    parameter.uniform_(0.5, 1.5, generator=generator)
                else:
                    parameter.normal_(0.0, 0.05 if parameter.ndim > 1 else 0.2, generator=generator)
        return model

    return fill


@pytest.fixture
def scenes(tmp_path: Path, draw_scenes: Callable[..., Path]) -> Callable[..., Path]:
    """`draw_scenes` into the test's own folder."""
    return lambda root="scenes", **given: draw_scenes(tmp_path / root, **given)


@pytest.fixture(scope="session")
def draw_scenes() -> Callable[..., Path]:
    """Make ROOT/images/{train,val}, ROOT/labels/{train,val} and ROOT/classes.txt."""
    return _draw_scenes


def _draw_scenes(
    root: Path,
    counts: Mapping[str, int] = {"train": 8, "val": 3},
    classes: Sequence[str] = ("sky", "road", "tree"),
    size: tuple[int, int] = (24, 16),
) -> Path:
    """Blocks of 4 pixels, each in the colour of its class; of none (255) at the left. Every other image is wider."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (256, 3), dtype=np.uint8)
    for part, count in counts.items():
        for folder in ("images", "labels"):
            (root / folder / part).mkdir(parents=True)
        for number in range(count):
            blocks = random.integers(0, len(classes), (size[1] // 4, size[0] // 4 + number % 2))
            labels = np.kron(blocks, np.ones((4, 4))).astype(np.uint8)
            labels[:, :2] = 255
            Image.fromarray(labels).save(root / "labels" / part / f"{number}.png")
            Image.fromarray(colours[labels]).save(root / "images" / part / f"{number}.png")
    (root / "classes.txt").write_text("\n".join(classes))
    return root

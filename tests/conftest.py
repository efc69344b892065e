"""Fixtures that several parts' tests share; the GPU tests' bare machine imports this too, so imports stay light."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
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

"""Imports point one way (config, geometry -> ops -> model -> checkpoint, tasks -> train -> the rest), and stay
light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "swinv2"

# What each part may import of swinv2. A part that is not listed here fails the test.
BASE = {"config", "download", "geometry", "files", "info", "precision", "preprocessing", "storage"}
MAY = {
    "config": set(),
    "download": set(),
    "files": set(),
    "precision": set(),
    "preprocessing": set(),
    "info": {"preprocessing"},
    "storage": {"config", "files", "info", "preprocessing"},
    "geometry": {"config"},
    "ops": BASE,
    "model": BASE | {"ops"},
    "checkpoint": BASE | {"ops", "model"},
    "data": BASE,
    "tasks": BASE | {"ops", "model", "checkpoint", "data"},
    "train": BASE | {"ops", "model", "checkpoint", "data", "tasks"},
    "export": BASE | {"ops", "model", "checkpoint"},
    "integrations": BASE | {"ops", "model", "checkpoint"},
    "benchmark": BASE | {"ops", "model", "checkpoint"},
    "plan": BASE | {"ops", "model", "benchmark"},
    "study": BASE | {"ops", "model", "checkpoint", "data", "tasks", "train", "benchmark", "plan"},
    "cli": BASE | {"ops", "model", "checkpoint", "data", "tasks", "train", "export", "benchmark", "plan", "study"},
    "__init__": BASE | {"ops", "model", "checkpoint"},
    "__main__": {"cli"},
}
ENGINES = {
    *("transformers", "onnx", "onnxscript", "onnxruntime", "lightning", "torchmetrics", "timm", "torchvision"),
    *("datasets", "jsonargparse", "matplotlib", "rich", "PIL"),
}

DETECT = SOURCE / "model" / "detect"
"""Made of torchvision's parts, an extra; `swinv2.model` does not import it."""


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            yield node.module
            if node.module == "swinv2":
                yield from (f"swinv2.{alias.name}" for alias in node.names if alias.name in MAY)


def part(name):
    return name.split(".")[1] if name.count(".") else "__init__"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    used = {part(name) for name in imports(path) if name.startswith("swinv2.")} - {own}
    assert used <= MAY[own], f"{own} imports {sorted(used - MAY[own])}"


@pytest.mark.parametrize("own", [*sorted(BASE), "ops", "model", "checkpoint"])
def test_the_core_needs_no_engine(own):
    paths = (SOURCE / own).rglob("*.py") if (SOURCE / own).is_dir() else [SOURCE / f"{own}.py"]
    used = {name.split(".")[0] for path in paths if DETECT not in path.parents for name in imports(path)}
    assert not used & ENGINES


def loaded_by(code, names):
    """Which of ``names`` are imported after running ``code`` in a fresh interpreter."""
    code = f"import sys\n{code}\nprint(sorted({set(names)!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ast.literal_eval(result.stdout)


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import swinv2; swinv2.SwinConfig()", {"torch", *ENGINES}) == []


def test_building_a_model_needs_the_core_only():
    assert loaded_by("import swinv2, swinv2.checkpoint; swinv2.create_model('swinv2_nano')", ENGINES) == []

import json
from pathlib import Path

import pytest

from swinv2.config import VARIANTS


@pytest.fixture
def models(swinv2):
    return lambda *arguments: swinv2("models", *arguments)


def test_the_table_has_every_model_and_its_size(models) -> None:
    status, out, _ = models()
    head, *rows = out.splitlines()
    assert status == 0
    assert head.split()[:2] == ["name", "parameters"]
    assert [row.split()[0] for row in rows] == list(VARIANTS)
    assert next(row.split()[1] for row in rows if row.startswith("swinv2_tiny ")) == "28,347,154"


def test_json_has_the_whole_configuration(models) -> None:
    status, out, _ = models("--format", "json", "swinv2_n*")
    (model,) = json.loads(out)
    assert status == 0
    assert model.pop("name") == "swinv2_nano"
    assert model.pop("parameters") > 1e6
    assert model.pop("image_size") == [256, 256]
    assert json.loads(json.dumps(VARIANTS["swinv2_nano"].to_dict())) == model


def test_a_pattern_without_models_is_refused(models) -> None:
    assert models("resnet*").status == 2


def test_results_go_to_a_file_that_is_not_overwritten(models, tmp_path: Path) -> None:
    path = tmp_path / "models.txt"
    first = models("--output", path)
    assert (first.status, first.out) == (0, "")
    assert str(path) in first.err
    text = path.read_text()
    assert models("swin_tiny", "--output", path).status == 2
    assert path.read_text() == text
    assert models("swin_tiny", "--output", path, "--overwrite").status == 0
    assert len(path.read_text().splitlines()) == 2

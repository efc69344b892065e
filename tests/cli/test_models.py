import json
import subprocess
import sys
from pathlib import Path

import pytest

from swinv2.checkpoint.published import RECORDS
from swinv2.config import VARIANTS

GUIDE = Path(__file__).parents[2] / "docs" / "weights.md"


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


def test_published_weights_are_a_table_of_their_own(models) -> None:
    status, out, _ = models("--pretrained")
    head, *rows = out.splitlines()
    assert status == 0
    assert head.split()[:2] == ["name", "parameters"]
    assert [row.split()[0] for row in rows] == list(RECORDS)
    (row,) = (row for row in rows if row.startswith("swinv2_base_window12to24_192to384.ms_in22k_ft_in1k "))
    for cell in (
        "87,918,816",
        "384x384",
        "24x24",
        "12x12,12x12,12x12,6x6",
        "87.10 (timm)",
        "mit",
        "timm, transformers",
    ):
        assert cell in row
    assert "--pretrained" in models().err, "the plain list says that there are more"


def test_json_has_the_whole_record(models) -> None:
    status, out, _ = models("--pretrained", "--format", "json", "swinv2_tiny_window16_256*")
    (row,) = json.loads(out)
    assert status == 0
    assert row["trained_window_size"] == [[16, 16], [16, 16], [16, 16], [8, 8]]
    assert (row["top1"], row["reported_by"], row["num_classes"]) == (82.804, "timm", 1000)
    assert row["preprocessing"]["crop_fraction"] == 0.9
    assert row["sources"][0]["url"] == "https://huggingface.co/timm/swinv2_tiny_window16_256.ms_in1k"


def test_a_pattern_without_published_weights_is_refused(models) -> None:
    result = models("--pretrained", "resnet*")
    assert result.status == 2
    assert "resnet*" in result.err


def test_the_guides_table_is_current(models) -> None:
    """docs/weights.md: replace what stands between the marks by the command's output."""
    table = GUIDE.read_text().partition("<!-- table -->\n")[2].partition("<!-- end -->")[0]
    assert table == models("--pretrained", "--format", "markdown").out


@pytest.mark.parametrize("arguments", [[], ["--pretrained"]])
def test_listing_needs_no_torch(arguments: list[str]) -> None:
    code = "import sys; from swinv2.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    listing = subprocess.run([sys.executable, "-c", code, "models", *arguments], capture_output=True, timeout=60)
    assert listing.returncode == 0

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from swinv2.checkpoint import save
from swinv2.model import create_model
from swinv2.preprocessing import Preprocessing
from swinv2.study.base import Cell, Done, Setting, Subject
from swinv2.study.bias_maps import STUDY, moved, roughness, tables
from swinv2.study.subject import load

TINY = {"embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "patch_size": [2, 2]}


@pytest.fixture
def weights(tmp_path: Path, randomise: Callable) -> Callable[..., Path]:
    """Write random weights with some kind of bias."""

    def write(kind: str = "log_cpb") -> Path:
        model = randomise(
            create_model("swinv2_nano", image_size=16, window_size=4, num_classes=2, position_bias=kind, **TINY)
        )
        preprocessing = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
        save(model, tmp_path / f"{kind}.safetensors", classes=("a", "b"), preprocessing=preprocessing)
        return tmp_path / f"{kind}.safetensors"

    return write


def test_a_plane_is_smooth_and_noise_is_rough() -> None:
    plane = torch.arange(21.0)[:, None] + 2 * torch.arange(21.0)
    noise = torch.randn(200, 200, generator=torch.Generator().manual_seed(0))
    assert roughness(plane[None])[0] == pytest.approx(0.0, abs=1e-6)
    assert roughness(noise[None])[0] == pytest.approx(6**0.5, rel=0.02)
    assert roughness(torch.ones(1, 5, 5)) == []
    assert roughness(torch.ones(1, 1, 1)) == []


def test_how_far_known_offsets_move() -> None:
    own = torch.tensor([[[1.0, 3.0, 1.0]] * 3])
    wide = torch.nn.functional.pad(own, (2, 2, 2, 2), value=9.0)
    assert moved(own, wide) == [0.0]
    assert moved(own, wide + 1) == [pytest.approx(1.0 / float(own.std()))]


def test_a_network_keeps_its_offsets_at_a_larger_window_and_a_table_does_not(weights: Callable[..., Path]) -> None:
    for kind in ("table", "linear_cpb", "log_cpb"):
        setting = Setting(subject=Subject(weights=str(weights(kind))))
        figures = STUDY.measure(STUDY.cells(setting)[0], setting, None)
        assert figures["kind"] == kind
        assert figures["heads"] == 2 * 2 + 2
        assert figures["moved"]["1"] == 0.0
        assert (figures["moved"]["2"] > 0.1) == (kind == "table")
        assert figures["moved"]["2"] < 1e-5 or kind == "table"


def test_stages_that_were_trained_on_one_token_have_no_map(tmp_path: Path) -> None:
    model = create_model("swinv2_nano", image_size=4, window_size=4, num_classes=2, **TINY)
    assert model.config.trained_window_size == ((2, 2), (1, 1))
    assert [table.shape for table in tables(model)] == [(2, 7, 7)] * 2


@pytest.mark.parametrize(("kind", "label"), [("table", "parameterised"), ("log_cpb", "log CPB")])
def test_pictures_of_anybodys_weights_over_anybodys_image(
    weights: Callable[..., Path], tmp_path: Path, kind: str, label: str
) -> None:
    Image.effect_noise((60, 40), 50).save(tmp_path / "mine.png")
    setting = Setting(subject=Subject(weights=str(weights(kind))), image=str(tmp_path / "mine.png"))
    cell = STUDY.cells(setting)[0]
    report = STUDY.report(setting, [Done(cell, STUDY.measure(cell, setting, None))])
    assert [picture.name for picture in report.pictures] == ["maps", "profiles", "attention", "rollout"]
    assert "mine.png" in report.pictures[2].caption
    assert report.claims == []
    maps, profiles, attention, _ = (picture.figure for picture in report.pictures)
    assert maps.axes[0].get_ylabel().startswith(label)
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in profiles.axes)
    assert attention.axes[0].get_ylabel() == "stage 1, 8 x 8 tokens"


def test_videos_and_what_are_no_weights_are_refused(tmp_path: Path) -> None:
    video = create_model("swinv2_video_tiny", embed_dim=8, depths=[1, 1], num_heads=[1, 2], num_classes=2)
    save(video, tmp_path / "video.safetensors", classes=("a", "b"))
    with pytest.raises(ValueError, match="is a model of videos: this study looks at images"):
        load(Subject(weights=str(tmp_path / "video.safetensors")))
    (tmp_path / "notes.pth").write_text("no weights")
    with pytest.raises(ValueError, match=r"notes\.pth"):
        load(Subject(weights=str(tmp_path / "notes.pth")))


def result(kind: str, rough: float, change: float) -> Done:
    ratios = ("1", "1.5", "2", "3")
    figures = {"kind": kind, "heads": 3, "rough": dict.fromkeys(ratios, rough), "moved": dict.fromkeys(ratios, change)}
    return Done(Cell(factors={"bias": kind, "seed": 0}), figures)


def test_the_claims_follow_from_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swinv2.study.bias_maps._pictures", lambda setting, results: [])

    def words(*found: Done) -> list[str]:
        return [claim.verdict.word for claim in STUDY.report(Setting(), found).claims]

    smooth, linear = result("log_cpb", 0.2, 0.0), result("linear_cpb", 0.2, 0.0)
    assert words(result("table", 1.0, 0.5), linear, smooth) == ["seen", "seen"]
    assert words(result("table", 0.25, 0.5), linear, smooth) == ["not seen", "seen"]
    assert words(result("table", 1.0, 0.5), linear, result("log_cpb", 0.2, 0.3)) == ["seen", "not seen"]
    assert words(result("table", 1.0, 0.5), linear) == ["not run yet", "not run yet"]

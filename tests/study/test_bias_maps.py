from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from PIL import Image

from swinv2.checkpoint import save
from swinv2.model import create_model
from swinv2.preprocessing import Preprocessing
from swinv2.study.base import Cell, Done, Setting, Subject
from swinv2.study.bias_maps import STUDY, moved, roughness, tables
from swinv2.study.bias_pictures import by_stage, maps, shown_heads
from swinv2.study.subject import load

TINY = {"embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "patch_size": [2, 2]}
PREPROCESSING = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def weights(tmp_path: Path, randomise: Callable) -> Callable[..., Path]:
    """Write random weights with some kind of bias."""

    def write(kind: str = "log_cpb") -> Path:
        model = randomise(
            create_model("swinv2_nano", image_size=16, window_size=4, num_classes=2, position_bias=kind, **TINY)
        )
        save(model, tmp_path / f"{kind}.safetensors", classes=("a", "b"), preprocessing=PREPROCESSING)
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


def test_models_that_learned_nothing_show_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table starts as noise and a network smooth, which is no evidence of what they learn."""
    monkeypatch.setattr("swinv2.study.bias_maps._pictures", lambda setting, results: [])
    found = []
    for cell in STUDY.cells(Setting()):
        torch.manual_seed(int(cell.factors["seed"]))
        options = {"image_size": 16, "window_size": 4, "num_classes": 2, "position_bias": cell.factors["bias"], **TINY}
        save(create_model("swinv2_nano", **options), tmp_path / "best.safetensors")
        found.append(Done(cell, STUDY.measure(cell, Setting(), tmp_path)))
    table, _, log = (done.figures for done in found[:3])
    assert (table["grown"], log["grown"]) == (1.0, 1.0)
    assert 2.0 < table["fresh"] < 2.8
    assert log["fresh"] < 0.6
    report = STUDY.report(Setting(), found)
    assert [claim.verdict.word for claim in report.claims[:2]] == [UNSEEN] * 2
    assert "which is noise" in report.claims[0].verdict.why


def test_stages_that_were_trained_on_one_token_have_no_map(tmp_path: Path) -> None:
    model = create_model("swinv2_nano", image_size=4, window_size=4, num_classes=2, **TINY)
    assert model.config.trained_window_size == ((2, 2), (1, 1))
    assert [table.shape for table in tables(model)] == [(2, 7, 7)] * 2


def test_a_model_without_any_map_is_refused(tmp_path: Path) -> None:
    model = create_model("swinv2_nano", image_size=2, window_size=1, num_classes=2, **TINY)
    save(model, tmp_path / "dots.safetensors", classes=("a", "b"), preprocessing=PREPROCESSING)
    setting = Setting(subject=Subject(weights=str(tmp_path / "dots.safetensors")))
    with pytest.raises(ValueError, match=r"dots\.safetensors was trained at windows of one token in every stage"):
        STUDY.measure(STUDY.cells(setting)[0], setting, None)


def test_all_heads_are_shown_where_they_are_few_else_those_of_the_last_block() -> None:
    assert shown_heads(2, 1) == [(0, 0), (1, 0)]
    assert shown_heads(2, 4) == [(block, head) for block in (0, 1) for head in range(4)]
    assert shown_heads(2, 6) == [(1, head) for head in range(6)]
    assert shown_heads(18, 16) == [(17, head) for head in range(0, 16, 2)]
    assert shown_heads(2, 12) == [(1, head) for head in (0, 1, 3, 4, 6, 7, 9, 10)]


def test_heads_of_a_stage_have_one_scale(weights: Callable[..., Path]) -> None:
    subject = Subject(weights=str(weights()))
    pair = (load(subject).body, load(subject, 8).body)
    figure = maps({"log CPB": pair})
    shown = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(shown) == 2 * 2 + 2
    for stage, images in zip(by_stage(*pair), (shown[:4], shown[4:]), strict=True):
        assert {image.get_clim() for image in images} == {(float(stage.wide.min()), float(stage.wide.max()))}
        for image, table in zip(images, stage.wide, strict=True):
            torch.testing.assert_close(torch.from_numpy(image.get_array().data), table)


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
    bars = [axes for axes in maps.axes if axes.get_label() == "<colorbar>"]
    assert [axes.get_ylabel() for axes in bars] == ["bias, added to the logit"] * 2, "one a stage"
    assert [axes.get_title() for axes in attention.axes[:4]] == [
        f"block {block}, head {head}" for block in (1, 2) for head in (1, 2)
    ]
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


UNSEEN = "not visible at this scale"


def trained(
    kind: str, rough: float, wide: float, change: float, spread: float = 0.01, grown: float = 5.0
) -> list[Done]:
    """Three seeds; roughness at the own window and at larger ones."""
    found = []
    for seed in range(3):
        noise = spread * (seed - 1)
        ratios = {"1": rough + noise, **dict.fromkeys(("1.5", "2", "3"), wide + noise)}
        moves = {"1": 0.0, **dict.fromkeys(("1.5", "2", "3"), change)}
        figures = {"kind": kind, "heads": 3, "rough": ratios, "moved": moves, "fresh": 2.4, "grown": grown}
        found.append(Done(Cell(factors={"bias": kind, "seed": seed}), figures))
    return found


def test_the_claims_follow_from_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swinv2.study.bias_maps._pictures", lambda setting, results: [])

    def words(*found: list[Done]) -> list[str]:
        return [claim.verdict.word for claim in STUDY.report(Setting(), list(chain(*found))).claims]

    table, linear = trained("table", 1.5, 1.0, 0.5), trained("linear_cpb", 0.2, 0.2, 1e-7)
    smooth = trained("log_cpb", 0.2, 0.2, 1e-7)
    assert words(table, linear, smooth) == ["seen"] * 3
    assert words(trained("table", 0.25, 0.25, 0.5), linear, smooth) == [UNSEEN, UNSEEN, "seen"], "less than 1.5 times"
    assert words(trained("table", 1.5, 1.0, 0.5, spread=0.9), linear, smooth)[:2] == [UNSEEN] * 2, "seeds differ"
    assert words(trained("table", 0.1, 0.1, 0.05), linear, smooth) == ["not seen"] * 3
    assert words(table, linear, trained("log_cpb", 0.2, 0.2, 0.3)) == ["seen", "seen", "not seen"]
    assert words(table, linear, smooth[:2]) == ["not run yet"] * 3
    assert words(trained("table", 1.5, 1.0, 0.5, grown=1.6), linear, smooth)[:2] == [UNSEEN] * 2, "that is its start"
    assert "by construction" in STUDY.report(Setting(), table + linear + smooth).claims[2].verdict.why


def test_a_seed_that_diverged_is_done_and_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swinv2.study.bias_maps._pictures", lambda setting, results: [])
    kinds = [trained(kind, 1.0, 1.0, 0.5) for kind in ("table", "linear_cpb", "log_cpb")]
    kinds[2][0] = Done(kinds[2][0].cell, {"diverged": "the loss is nan"})
    report = STUDY.report(Setting(), list(chain(*kinds)))
    assert "0 of 3 and 1 of 3 diverged" in report.claims[0].verdict.why
    assert [each.seeds for each in report.tables[0].rows[2][2:5]] == [2, 2, 2]

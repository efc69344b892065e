import json
from dataclasses import replace
from pathlib import Path

import pytest

from swinv2.benchmark.chart import save
from swinv2.config import make_config
from swinv2.plan.document import chart, document
from swinv2.plan.planning import CARDS, Planner, candidates
from swinv2.plan.settings import Settings


def test_candidates_come_in_the_order_of_what_they_cost() -> None:
    asked = Settings(image_size=(64, 64), devices=8, strategy="fsdp", checkpointing="block")
    made = [each.describe() for each in candidates(asked, 4)]
    assert made[:4] == [
        "ddp",
        "ddp, sequential attention in stages 0, 1 within 256 MiB",
        "ddp, sequential attention within 256 MiB",
        "zero1",
    ]
    assert made[-1] == "fsdp, checkpointing, sequential attention within 256 MiB"
    assert len(made) == len(set(made)) == 2 * 3 * 3
    alone = Settings(image_size=(64, 64), attention="sequential", budget_mb=8)
    assert [each.describe() for each in candidates(alone, 4)] == [
        "sequential attention within 8 MiB",
        "sequential attention in stages 0, 1 within 8 MiB",
        "checkpointing, sequential attention within 8 MiB",
        "checkpointing, sequential attention in stages 0, 1 within 8 MiB",
    ]


def test_the_cheapest_that_fits_is_the_first_that_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = make_config("swinv2_nano", window_size=16, image_size=64)
    planner, settings = Planner(config), Settings(image_size=(64, 64), batch=8)
    first, last = planner(settings), planner(list(candidates(settings, 4))[-1])
    assert last.peak.total < first.peak.total
    monkeypatch.setitem(CARDS, "24 GB", last.peak.total)
    monkeypatch.setitem(CARDS, "40 GB", first.peak.total)
    monkeypatch.setitem(CARDS, "80 GB", first.peak.total - 1)
    found, tried = planner.cheapest(settings)
    assert found["40 GB"] == found["141 GB"] == first
    for card, made in found.items():
        assert made == next(each for each in tried if each.peak.total <= CARDS[card])
    monkeypatch.setitem(CARDS, "24 GB", 1000)
    assert planner.cheapest(settings)[0]["24 GB"] is None

    plain = json.loads(json.dumps(first.to_dict()))
    assert plain["total"] == sum(first.peak.parts.values())
    assert plain["fits"] == {"24 GB": False, "40 GB": True, "80 GB": False, "141 GB": True}
    text = document("swinv2_nano", first, {"24 GB": None, "40 GB": first})
    assert "| 24 GB | none of those tried | - | - | - |" in text
    save(chart("swinv2_nano", first, tried), tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_more_images_take_more_and_nothing_else_changes() -> None:
    planner = Planner(make_config("swinv2_nano", window_size=8, image_size=64))
    one, two, three = (planner(Settings(image_size=(64, 64), batch=batch)) for batch in (1, 2, 3))
    assert one.states == two.states == three.states
    assert two.forward_flops - one.forward_flops == three.forward_flops - two.forward_flops


@pytest.mark.slow
def test_the_papers_largest_model_at_its_largest_images_fits_its_cards() -> None:
    """Section 3.5: 1536 x 1536 with windows of 32 on cards of 40 GB, with ZeRO-1, checkpointing and sequential
    attention in the first two stages. It does not fit without ZeRO-1, without checkpointing, or where the attention
    writes all its scores down, as it did then; PyTorch's memory-efficient kernel does not.
    """
    planner = Planner(make_config("swinv2_giant", window_size=32, image_size=1536))
    first_two = {"attention": "sequential", "attention_stages": (0, 1)}
    paper = Settings(
        image_size=(1536, 1536), precision="fp16", devices=8, strategy="zero1", checkpointing="block", **first_two
    )
    assert planner(paper).fits(CARDS["40 GB"])
    for change in ({"strategy": "ddp"}, {"checkpointing": "none"}, {"attention": "reference"}):
        assert not planner(replace(paper, **change)).fits(CARDS["40 GB"])

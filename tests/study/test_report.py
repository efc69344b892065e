from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from swinv2.study.base import Cell, Done, Setting, Study
from swinv2.study.findings import DEFINITIONS, Mean, Table
from swinv2.study.report import as_csv, write_report

DONE = [Done(Cell(factors={"kind": "log_cpb", "seed": 0}), {"top1": 0.5})]


@pytest.fixture
def written(tiny_study: Callable[..., Study], tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text("study: <tiny>\n")
    write_report("tiny", tiny_study(), Setting(), DONE, tmp_path)
    return tmp_path


def test_means_have_their_deviation_and_count_beside_them() -> None:
    rows = [["log", Mean(0.5, 0.1, 3), 7], ["other", None, 8], ["third", Mean(0.25, None, 1), None]]
    text = as_csv(Table(name="t", caption="", head=["kind", "top-1", "heads"], rows=rows))
    head, *body = csv.reader(text.splitlines())
    assert head == ["kind", "top-1", "top-1, standard deviation", "top-1, seeds", "heads"]
    assert body == [["log", "0.5", "0.1", "3", "7"], ["other", "", "", "", "8"], ["third", "0.25", "", "1", ""]]


def test_what_a_study_leaves(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == [
        "cells.csv",
        "line.png",
        "report.html",
        "report.md",
        "study.yaml",
        "top.csv",
    ]
    text = (written / "report.md").read_text()
    assert "| it <learns> | Table 0 | seen | it did & does. |" in text
    assert '![A "line"](line.png)' in text
    assert "| log | 0.5 |" in text


def test_what_rules_name_is_explained_once(written: Path) -> None:
    for name in ("report.md", "report.html"):
        text = (written / name).read_text()
        for definition in DEFINITIONS.values():
            assert text.count(escape(definition) if name.endswith("html") else definition) == 1


class Page(HTMLParser):
    """Tags that are open, and everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.asked += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img":
            self.images.append(given)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert "@import" not in data
        assert "url(" not in data
        self.text += data


def test_the_page_is_whole_and_asks_for_nothing_outside(written: Path) -> None:
    source = (written / "report.html").read_text()
    page = Page()
    page.feed(source)
    assert page.open == []
    assert all(each.startswith("data:") for each in page.asked)
    assert len(page.images) == 1
    assert page.images[0]["alt"] == 'A "line"'
    assert "<script" not in source
    assert "default-src 'none'" in source
    for told in ("it <learns>", "it did & does.", "Top-1 <of all>", "study: <tiny>"):
        assert told in page.text


def test_a_picture_that_cannot_be_drawn_leaves_what_was_there(
    written: Path, tiny_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (written / "line.png").read_bytes()

    def broken(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        write_report("tiny", tiny_study(), Setting(), DONE, written)
    assert (written / "line.png").read_bytes() == before
    assert len(list(written.iterdir())) == 6


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: install it to see the page in a browser")
def test_a_browser_shows_the_page_without_complaint(written: Path) -> None:
    page = written / "report.html"
    check = (
        "<script>onload = () => document.title = [...document.images].every(i => i.complete && i.naturalWidth > 99)"
        " + ' ' + performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length</script>"
    )
    probed = written / "probed.html"  # the page's policy forbids scripts: that of the copy lets this one run
    policy = "style-src 'unsafe-inline'"
    source = page.read_text().replace(policy, f"{policy}; script-src 'unsafe-inline'")
    probed.write_text(source.replace("</body>", f"{check}</body>"))
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    flags.append(f"--user-data-dir={written / 'profile'}")
    for file, expected in ((page, "<title>swinv2 study tiny"), (probed, "<title>true 0</title>")):
        done = subprocess.run(
            [CHROMIUM, *flags, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert expected in done.stdout
        assert "CONSOLE" not in done.stderr

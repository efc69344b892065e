"""What a study leaves for people: tables as CSV, pictures as PNG, and the whole as Markdown and as one HTML page."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from swinv2.benchmark.chart import save
from swinv2.benchmark.report import markdown
from swinv2.files import written_aside
from swinv2.study.base import Done, Setting, Study
from swinv2.study.findings import DEFINITIONS, Claim, Mean, Report, Table
from swinv2.study.raw import cells_csv, provenance, rounds_csv

WORDS = {
    "seen": "#1a7f37",
    "not seen": "#b42318",
    "not visible at this scale": "#8a6100",
    "not run yet": "#57606a",
}
"""Verdicts and their colours."""

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; max-width: 1100px; margin: 2em auto;
  padding: 0 1em; }
table { border-collapse: collapse; font-size: 14px; margin: .5em 0 1em; }
th, td { border: 1px solid #d0d7de; padding: 4px 9px; text-align: left; vertical-align: top; }
th { background: #f6f8fa; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 4px; }
.beside { display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start; }
.scroll { overflow-x: auto; }
figure { margin: 1em 0; }
img { max-width: 100%; height: auto; border: 1px solid #d0d7de; }
figcaption, .note, caption { color: #57606a; }
pre { background: #f6f8fa; padding: 1em; overflow-x: auto; }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page may fetch nothing: its pictures are in it."""


def write_report(name: str, study: Study, setting: Setting, done: Sequence[Done], out: Path) -> Report:
    """Write everything that follows from the cells that are done; each file is whole at any time."""
    report = study.report(setting, done)
    report = replace(report, notes=[*report.notes, *filter(None, [provenance(done)])])
    for file, text in (("cells", cells_csv(done)), ("rounds", rounds_csv(done))):
        if text:
            _write(out / f"{file}.csv", text)
    for table in report.tables:
        _write(out / f"{table.name}.csv", as_csv(table))
    for picture in report.pictures:
        save(picture.figure, out / f"{picture.name}.png")
    pictures = {picture.name: (out / f"{picture.name}.png").read_bytes() for picture in report.pictures}
    configuration = (out / "study.yaml").read_text(encoding="utf-8")
    _write(out / "report.md", as_markdown(name, study, setting, report))
    _write(out / "report.html", as_html(name, study, setting, report, pictures, configuration))
    return report


def _write(path: Path, text: str) -> None:
    with written_aside(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")


def as_csv(table: Table) -> str:
    """Bare numbers; a column of means has their deviation and their count beside it."""
    means = [any(isinstance(row[place], Mean) for row in table.rows) for place in range(len(table.head))]
    head = [
        column
        for name, spread in zip(table.head, means, strict=True)
        for column in ((name, f"{name}, standard deviation", f"{name}, seeds") if spread else (name,))
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in table.rows:
        writer.writerow(
            bare for value, spread in zip(row, means, strict=True) for bare in (_three(value) if spread else (value,))
        )
    return text.getvalue()


def _three(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Mean) else (value, None, None)


def _title(name: str, setting: Setting) -> str:
    return f"{name}, {setting.subject.weights}" if setting.subject else f"{name}, {setting.scale} scale"


def as_markdown(name: str, study: Study, setting: Setting, report: Report) -> str:
    """The whole report, with links to the pictures beside it."""
    parts = [f"# {_title(name, setting)}", f"{study.title} (paper: {study.source}).", report.question or study.question]
    if report.claims:
        rows = [[claim.text, claim.source, claim.verdict.word, claim.verdict.why] for claim in report.claims]
        parts.append(markdown(["claim of the paper", "the paper's figures", "verdict", "why"], rows, text_columns=4))
    parts += [f"![{picture.caption}]({picture.name}.png)\n\n{picture.caption}" for picture in report.pictures]
    parts += [_table_markdown(table) for table in (*report.tables, *report.paper)]
    if report.claims:
        parts.append("Rules:\n\n" + "\n".join(f"- {text}" for text in _rules(report.claims)))
    parts += report.notes
    return "\n\n".join(parts) + "\n"


def _table_markdown(table: Table) -> str:
    rows = [[table.show(value) for value in row] for row in table.rows]
    return "\n\n".join(
        filter(None, [f"**{table.caption}**", markdown(table.head, rows, table.text_columns), table.note])
    )


def _rules(claims: Sequence[Claim]) -> list[str]:
    """Each rule with the claims that it is for; then what rules name."""
    rules: dict[str, list[str]] = {}
    for claim in claims:
        rules.setdefault(claim.rule, []).append(claim.text)
    named = {term: text for term, text in DEFINITIONS.items() if any(term in rule for rule in rules)}
    return [
        *(f"{'; '.join(texts)}: {rule}." for rule, texts in rules.items()),
        *(f"{term[0].upper()}{term[1:]}: {text}." for term, text in named.items()),
    ]


def as_html(
    name: str, study: Study, setting: Setting, report: Report, pictures: dict[str, bytes], configuration: str
) -> str:
    """The whole report as one page that asks for nothing outside itself."""
    title = escape(f"swinv2 study {_title(name, setting)}")
    body = [
        f"<h1>{title}</h1>",
        _paragraph(f"{study.title} (paper: {study.source})."),
        _paragraph(report.question or study.question),
    ]
    if report.claims:
        body += ["<h2>What the paper claims, and what is seen here</h2>", _claims(report.claims)]
    for picture in report.pictures:
        data = base64.b64encode(pictures[picture.name]).decode("ascii")
        caption = escape(picture.caption)
        image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        body.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    body += ["<h2>Our figures, and the paper's</h2>", '<div class="beside">']
    body += [_table(table) for table in (*report.tables, *report.paper)]
    body.append("</div>")
    if report.claims:
        rules = "".join(f"<li>{escape(text)}</li>" for text in _rules(report.claims))
        body.append(f"<h2>Rules of the verdicts</h2><ul>{rules}</ul>")
    body += [_paragraph(note) for note in report.notes]
    body.append(
        f"<h2>Configuration</h2><details><summary>study.yaml</summary><pre>{escape(configuration)}</pre></details>"
    )
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{STYLE}</style>"
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _claims(claims: Sequence[Claim]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in ("claim", "the paper's figures", "verdict", "why"))
    rows = "".join(
        f"<tr><td>{escape(claim.text)}</td><td>{escape(claim.source)}</td>"
        f'<td style="color:{WORDS[claim.verdict.word]};font-weight:600">{claim.verdict.word}</td>'
        f"<td>{escape(claim.verdict.why)}</td></tr>"
        for claim in claims
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _table(table: Table) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        sides = ("text" if place < table.text_columns else "number" for place in range(len(cells)))
        cells = [f'<{tag} class="{side}">{escape(cell)}</{tag}>' for side, cell in zip(sides, cells, strict=True)]
        return f"<tr>{''.join(cells)}</tr>"

    head = line("th", table.head)
    rows = "".join(line("td", [table.show(value) for value in row]) for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    caption = f"<caption>{escape(table.caption)}</caption>"
    return f'<div class="scroll"><table>{caption}{head}{rows}</table>{note}</div>'

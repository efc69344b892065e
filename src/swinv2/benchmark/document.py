"""The report of `benchmark_model`: Markdown and chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from swinv2.benchmark.chart import bar_chart
from swinv2.benchmark.machine import Ceilings
from swinv2.benchmark.report import ceiling_lines, machine_lines, markdown, mebibytes, number


def document(name: str, result: dict[str, Any]) -> str:
    """Everything that was measured, as Markdown."""
    plan = result["plan"]
    size = " x ".join(map(str, plan["image_size"]))
    sections = [
        f"# {name}: {plan['work']}, {size}, batch {plan['batch']}",
        machine_lines(result["machine"]),
        ceiling_lines(Ceilings(**result["ceilings"])),
        speed_table(result),
    ]
    for dtype, inside in result["parts"].items():
        sections += [f"## Where the time of a forward pass goes, {dtype}", parts_table(inside), _floors(inside)]
        sections += [f"On paper ({dtype}):", work_table(inside)]
    for dtype, reason in result["backends"].items():
        sections += [f"## Attention backend, {dtype}", f"```\n{reason}\n```"]
    return "\n\n".join(sections) + "\n"


def speed_table(result: dict[str, Any]) -> str:
    """A line for each contender and dtype."""
    head = ["", "dtype", "images/s", "ms", "spread", "peak MiB", "rounds", "disturbed"]
    rows = [
        [
            row["name"],
            row["dtype"],
            number(row["images_per_second"]),
            number(None if row["seconds"] is None else 1e3 * row["seconds"]),
            "-" if row["spread"] is None else f"{row['spread']:.1%}",
            mebibytes(row["peak_bytes"]),
            row["rounds"],
            row["disturbed"],
        ]
        for row in result["rows"]
    ]
    failed = [f"- {row['name']}, {row['dtype']}: {row['error']}" for row in result["rows"] if row["error"]]
    table = markdown(head, rows, text_columns=2)
    return "\n\n".join([table, "Failed:", "\n".join(failed)] if failed else [table])


def parts_table(inside: dict[str, Any]) -> str:
    """Own time of the operators, by part."""
    rows = [
        [part["name"], ", ".join(part["operators"]), number(1e3 * part["seconds"]), f"{part['share']:.1%}"]
        for part in inside["parts"]
    ]
    return markdown(["part", "largest operators", "ms", "share"], rows, text_columns=2)


def _floors(inside: dict[str, Any]) -> str:
    total = sum(part["seconds"] for part in inside["parts"])
    return (
        f"All parts take {number(1e3 * total)} ms under the profiler. The linear layers' matrix products alone take "
        f"{number(1e3 * inside['linear_alone'])} ms; on paper, at the measured ceilings, the forward pass takes "
        f"{number(1e3 * inside['floor'])} ms at least."
    )


def work_table(inside: dict[str, Any]) -> str:
    """Operations, bytes and exponentials of each stage, and its floor."""
    rows = [
        [
            f"stage {row['stage']}" if row["stage"] else "patch embedding and head",
            row["part"],
            number(row["flops"] / 1e9),
            number(row["bytes"] / 2**20),
            number(row["exponentials"] / 1e6),
            number(1e3 * row["floor"]),
            row["bound"],
        ]
        for row in inside["work"]
    ]
    head = ["", "part", "GFLOP", "MiB", "M exponentials", "floor, ms", "bound by"]
    return markdown(head, rows, text_columns=2)


def floors_table(results: Mapping[str, dict[str, Any]]) -> str:
    """Measured time, matrix products alone and floor of the first contender of several results of one dtype each."""
    rows = []
    for name, result in results.items():
        (inside,) = result["parts"].values()
        measured = result["rows"][0]["seconds"]
        times = (measured, inside["linear_alone"], inside["floor"])
        shares = ["-" if measured is None else f"{each / measured:.0%}" for each in times[1:]]
        rows.append([name, *(number(None if each is None else 1e3 * each) for each in times), *shares])
    head = ["", "measured, ms", "matrix products alone, ms", "floor, ms", "products", "floor"]
    return markdown(head, rows)


def speed_chart(name: str, result: dict[str, Any]) -> Figure:
    """Images a second, a group of bars for each dtype."""
    plan = result["plan"]
    groups: dict[str, dict[str, tuple[float, str]]] = {}
    for row in result["rows"]:
        rate = row["images_per_second"]
        if rate is not None:
            groups.setdefault(row["dtype"], {})[row["name"]] = (rate, number(rate))
    title = f"{name}: {plan['work']}, {' x '.join(map(str, plan['image_size']))}, batch {plan['batch']}"
    return bar_chart(list(groups.items()), title, "images/s")

"""SwinV2-T beside timm, transformers and torchvision: images a second and peak memory, inference and training.

    python benchmarks/compare.py [--device cuda] [--rows 'w8.*fp32'] [--rounds 11] [--seconds 120] [--out FOLDER]

In each row all libraries run in one process with the same weights, threads and allocator, eager or all of them under
torch.compile in its default mode, in interleaved rounds (`swinv2.benchmark.timing`). Peak memory is measured eagerly in
a fresh process for each library (`swinv2.benchmark.memory`). A row is kept as soon as it is measured; a later run
replaces the rows that it measures again. --draw only writes table and chart from the rows that are kept.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from common import CASES, DROP_PATH, PEERS, Case, Store, can_draw, parse
from torch import nn

from swinv2.benchmark.contenders import WORK, Call, images, memory
from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.peers import build_peer
from swinv2.benchmark.report import machine_lines, markdown, mebibytes, number
from swinv2.benchmark.timing import interleave, one_line

NAMES = ("swinv2", *PEERS)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str
    case: Case
    dtype: str
    compiled: bool

    def __str__(self) -> str:
        autocast = " autocast" if self.work == "training" and self.dtype != "fp32" else ""
        return f"{self.work} {self.case} {self.dtype}{autocast} {'compiled' if self.compiled else 'eager'}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """Torchvision has window 8 only where no map is smaller."""
        return NAMES if self.case.window == 8 else NAMES[:-1]

    def call(self, contender: str, device: torch.device) -> Call:
        """What is timed of a library."""
        size = (self.case.image_size,) * 2
        x = images(self.case.batch, 3, size, device)
        own = self.case.build(DROP_PATH if self.work == "training" else 0.0)
        model: nn.Module = own if contender == "swinv2" else build_peer(contender, own, size)
        return WORK[self.work](model, x, DTYPES[self.dtype], self.compiled)


ROWS = [
    *(
        Row("inference", case, dtype, compiled)
        for case in CASES
        for dtype in ("fp32", "bf16")
        for compiled in (False, True)
    ),
    *(
        Row("training", case, dtype, compiled)
        for case in (CASES[0], CASES[2])
        for dtype in ("bf16", "fp32")
        for compiled in (False, True)
    ),
]


def measure(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Images a second of each library, its peak memory, and what failed."""
    calls: dict[str, Call] = {}
    errors: dict[str, str] = {}
    for name in row.contenders:
        attempt(name, errors, lambda name=name: calls.update({name: row.call(name, options.device)}))
    timing = interleave(calls, options.device, rounds=options.rounds, seconds=options.seconds)
    calls.clear()
    torch._dynamo.reset()
    gc.collect()
    used: dict[str, dict[str, int | None]] = {}
    if not (row.compiled or options.no_memory):
        for name in timing.seconds:
            attempt(name, errors, lambda name=name: used.update({name: fresh_memory(row, name, options)}))
    rates = {name: row.case.batch / seconds for name, seconds in timing.seconds.items()}
    peers = {name: rate for name, rate in rates.items() if name != "swinv2"}
    return {
        "work": row.work,
        **asdict(row.case),
        "dtype": row.dtype,
        "compiled": row.compiled,
        "images_per_second": rates,
        "spread": timing.spread,
        "fastest_peer": max(peers, key=lambda name: peers[name], default=None),
        "ratio": rates["swinv2"] / max(peers.values()) if peers and "swinv2" in rates else None,
        "memory": used,
        "rounds": timing.rounds,
        "disturbed": timing.disturbed,
        "errors": {**errors, **timing.errors},
    }


def attempt(name: str, errors: dict[str, str], do: Callable[[], object]) -> None:
    """Do it, or note why a contender could not."""
    try:
        do()
    except Exception as error:  # whatever a library raises, it is one contender of several
        errors[name] = one_line(error)


def fresh_memory(
    row: Any, contender: str, options: argparse.Namespace, script: str = __file__
) -> dict[str, int | None]:
    """Peak memory of a contender in a process of its own, in which the script says it."""
    command = [sys.executable, script, "--memory-of", str(row), "--contender", contender]
    command += ["--device", str(options.device), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"memory: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_memory(row: Any, contender: str, device: torch.device) -> None:
    """What `fresh_memory` reads."""
    call = row.call(contender, device)
    gc.collect()
    used = memory(row.work, call, device)
    print(json.dumps({"peak_bytes": used.peak, "resident_bytes": used.resident}))


def report(store: Store) -> str:
    """The rows as Markdown."""
    rows = list(store.rows.values())
    sections = ["# SwinV2-T beside other libraries", machine_lines(store.machine)]
    sections += [
        "Images a second, medians of interleaved rounds; the ratio is that of swinv2 to the fastest peer.",
        speed(rows),
    ]
    if any(row["memory"] for row in rows):
        sections += [
            "Peak memory in MiB above the loaded model, of a first forward pass or a second training step in a fresh "
            "process, eager: in PyTorch's allocator, and in brackets what the system counts.",
            memory_table(rows),
        ]
    failed = [f"- {row['name']}, {name}: {error}" for row in rows for name, error in row["errors"].items()]
    return "\n\n".join(sections + (["Failed:", "\n".join(failed)] if failed else []))


def speed(rows: list[dict[str, Any]]) -> str:
    def cells(row: dict[str, Any]) -> list[str]:
        rates = [number(row["images_per_second"].get(name)) for name in NAMES]
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        return [row["name"], *rates, ratio, f"{row['disturbed']} of {row['rounds']}"]

    return markdown(["", *NAMES, "ratio", "disturbed rounds"], map(cells, rows))


def memory_table(rows: list[dict[str, Any]]) -> str:
    def cells(row: dict[str, Any]) -> list[str]:
        used = row["memory"]
        shown = [
            f"{mebibytes(used[name]['peak_bytes'])} ({mebibytes(used[name]['resident_bytes'])})"
            if name in used
            else "-"
            for name in NAMES
        ]
        peers = [each["peak_bytes"] for name, each in used.items() if name != "swinv2"]
        share = f"{used['swinv2']['peak_bytes'] / min(peers):.2f}x" if peers and "swinv2" in used else "-"
        return [row["name"], *shown, share]

    return markdown(["", *NAMES, "of the least of a peer"], (cells(row) for row in rows if row["memory"]))


def draw(store: Store) -> None:
    """Bars of the speed, in units of the fastest peer."""
    from swinv2.benchmark.chart import bar_chart, save

    groups = []
    for row in store.rows.values():
        rates = row["images_per_second"]
        best = rates.get(row["fastest_peer"])
        if best:
            bars = {name: (rates[name] / best, f"{number(rates[name])}/s, {rates[name] / best:.2f}x") for name in rates}
            groups.append((row["name"], bars))
    if groups:
        title = f"SwinV2-T: {store.machine['processor']}, {store.machine['threads']} threads"
        title = store.machine["device"] if store.machine["device"] != "cpu" else title
        save(bar_chart(groups, title, "images/s over the fastest peer's", line=1.0), store.path.with_suffix(".png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parse(parser)
    if options.memory_of:
        (row,) = (row for row in ROWS if str(row) == options.memory_of)
        return print_memory(row, options.contender, options.device)
    store = Store("compare", options)
    chosen = [row for row in ROWS if re.search(options.rows, str(row)) and not (row.compiled and options.no_compile)]
    for row in [] if options.draw else chosen:
        print(f"{row} ...", file=sys.stderr, flush=True)
        measured = measure(row, options)
        store.add(str(row), measured)
        print(json.dumps(store.rows[str(row)]), flush=True)
    order = {str(row): place for place, row in enumerate(ROWS)}
    store.rows = dict(sorted(store.rows.items(), key=lambda item: order.get(item[0], len(order))))
    store.write(report(store))
    if can_draw():
        draw(store)
    return None


if __name__ == "__main__":
    main()

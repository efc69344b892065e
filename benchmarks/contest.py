"""Models that do the same work beside each other: how they are timed, their memory measured, and both shown.

In each row all contenders run in one process, eager or all of them under torch.compile, in interleaved rounds
(`swinv2.benchmark.timing`). Peak memory is measured eagerly in a fresh process for each (`swinv2.benchmark.memory`). A
row is kept as soon as it is measured; a later run replaces the rows that it measures again.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from common import DROP_PATH, Store, parse
from torch import nn

from swinv2.benchmark.contenders import WORK, Call, images, memory
from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.report import machine_lines, markdown, mebibytes, number
from swinv2.benchmark.timing import interleave, one_line


@dataclass(frozen=True)
class Row:
    """One line of the table; the case has a batch, and the size of its images or clips."""

    work: str
    case: Any
    dtype: str
    compiled: bool

    def __str__(self) -> str:
        autocast = " autocast" if self.work == "training" and self.dtype != "fp32" else ""
        return f"{self.work} {self.case} {self.dtype}{autocast} {'compiled' if self.compiled else 'eager'}"


@dataclass(frozen=True)
class Contest:
    """Who takes part, and what is said of it.

    Args:
        script: the file whose process measures the memory of one contender.
        title: of the table.
        unit: what is counted, "images" or "clips".
        rows: all that can be measured, in their order.
        builders: of a case's model by the name of a contender, with a rate of drop path.
        ours: which of them is compared.
        peers: with the best of these.
        ratio: what that means, as the end of a sentence.
        share: the same of memory, as the head of a column.
        takes_part: whether a contender can do a case.
    """

    script: str
    title: str
    unit: str
    rows: Sequence[Row]
    builders: Mapping[str, Callable[[Any, float], nn.Module]]
    ours: str
    peers: Sequence[str]
    ratio: str
    share: str
    takes_part: Callable[[str, Any], bool] = lambda name, case: True

    def parse(self, parser: argparse.ArgumentParser) -> argparse.Namespace:
        """The options of all benchmarks, and those of a contest."""
        parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
        parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
        parser.add_argument("--memory-of", help=argparse.SUPPRESS)
        parser.add_argument("--contender", help=argparse.SUPPRESS)
        return parse(parser)

    def run(self, store: Store, options: argparse.Namespace) -> None:
        """Measure the rows that are asked for."""
        for row in self.rows:
            if re.search(options.rows, str(row)) and not (row.compiled and options.no_compile):
                print(f"{row} ...", file=sys.stderr, flush=True)
                store.add(str(row), self.measure(row, options))
                print(json.dumps(store.rows[str(row)]), flush=True)

    def measure(self, row: Row, options: argparse.Namespace) -> dict[str, Any]:
        """What each contender does in a second, its peak memory, and what failed."""
        calls: dict[str, Call] = {}
        errors: dict[str, str] = {}
        for name in self.builders:
            if self.takes_part(name, row.case):
                attempt(name, errors, lambda name=name: calls.update({name: self.call(row, name, options.device)}))
        timing = interleave(calls, options.device, rounds=options.rounds, seconds=options.seconds)
        calls.clear()
        torch._dynamo.reset()
        gc.collect()
        used: dict[str, dict[str, int | None]] = {}
        if not (row.compiled or options.no_memory):
            for name in timing.seconds:
                attempt(name, errors, lambda name=name: used.update({name: self.fresh_memory(row, name, options)}))
        rates = {name: row.case.batch / seconds for name, seconds in timing.seconds.items()}
        fastest = max(rates.keys() & set(self.peers), key=lambda name: rates[name], default=None)
        return {
            "work": row.work,
            **asdict(row.case),
            "dtype": row.dtype,
            "compiled": row.compiled,
            f"{self.unit}_per_second": rates,
            "spread": timing.spread,
            **({"fastest_peer": fastest} if len(self.peers) > 1 else {}),
            "ratio": rates[self.ours] / rates[fastest] if fastest and self.ours in rates else None,
            "memory": used,
            "rounds": timing.rounds,
            "disturbed": timing.disturbed,
            "errors": {**errors, **timing.errors},
        }

    def call(self, row: Row, contender: str, device: torch.device) -> Call:
        """What is timed of a contender."""
        model = self.builders[contender](row.case, DROP_PATH if row.work == "training" else 0.0)
        x = images(row.case.batch, 3, row.case.size, device)
        return WORK[row.work](model, x, DTYPES[row.dtype], row.compiled)

    def fresh_memory(self, row: Row, contender: str, options: argparse.Namespace) -> dict[str, int | None]:
        """Peak memory of a contender in a process of its own, in which the script says it."""
        command = [sys.executable, self.script, "--memory-of", str(row), "--contender", contender]
        command += ["--device", str(options.device), "--threads", str(options.threads)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"memory: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
        return json.loads(done.stdout.splitlines()[-1])

    def print_memory(self, name: str, contender: str, device: torch.device) -> None:
        """What `fresh_memory` reads, of the row of that name."""
        (row,) = (row for row in self.rows if str(row) == name)
        call = self.call(row, contender, device)
        gc.collect()
        used = memory(row.work, call, device)
        print(json.dumps({"peak_bytes": used.peak, "resident_bytes": used.resident}))

    def report(self, store: Store) -> str:
        """The rows as Markdown, put in their order."""
        order = {str(row): place for place, row in enumerate(self.rows)}
        store.rows = dict(sorted(store.rows.items(), key=lambda item: order.get(item[0], len(order))))
        rows = list(store.rows.values())
        sections = [f"# {self.title}", machine_lines(store.machine)]
        sections += [
            f"{self.unit.capitalize()} a second, medians of interleaved rounds; {self.ratio}.",
            markdown(["", *self.builders, "ratio", "disturbed rounds"], map(self._speed, rows)),
        ]
        if any(row["memory"] for row in rows):
            sections += [
                "Peak memory in MiB above the loaded model, of a first forward pass or a second training step in a "
                "fresh process, eager: in PyTorch's allocator, and in brackets what the system counts.",
                markdown(["", *self.builders, self.share], (self._memory(row) for row in rows if row["memory"])),
            ]
        failed = [f"- {row['name']}, {name}: {error}" for row in rows for name, error in row["errors"].items()]
        return "\n\n".join(sections + (["Failed:", "\n".join(failed)] if failed else []))

    def _speed(self, row: dict[str, Any]) -> list[str]:
        rates = [number(row[f"{self.unit}_per_second"].get(name)) for name in self.builders]
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        return [row["name"], *rates, ratio, f"{row['disturbed']} of {row['rounds']}"]

    def _memory(self, row: dict[str, Any]) -> list[str]:
        used, peaks = row["memory"], {name: each["peak_bytes"] for name, each in row["memory"].items()}
        shown = [
            f"{mebibytes(peaks[name])} ({mebibytes(used[name]['resident_bytes'])})" if name in used else "-"
            for name in self.builders
        ]
        least = min((peaks[name] for name in self.peers if name in peaks), default=None)
        return [row["name"], *shown, f"{peaks[self.ours] / least:.2f}x" if least and self.ours in peaks else "-"]


def attempt(name: str, errors: dict[str, str], do: Callable[[], object]) -> None:
    """Do it, or note why a contender could not."""
    try:
        do()
    except Exception as error:  # whatever a library raises, it is one contender of several
        errors[name] = one_line(error)

"""The attention operator alone: time by backend, and the share of the measured bandwidth and arithmetic it reaches.

    python benchmarks/attention.py [--rows 'w8.*bf16 forward'] [--backends sequential,sdpa] [--device cuda]

Bandwidth is that of the ideal bytes (forward: qkv read, output written; backward: qkv and the output's gradient read,
the gradient of qkv written), over that of a large copy. FLOP/s are those of the products (4 N head_dim a query and
head forward, 2.5 times that backward, where the probabilities are computed again), over those of a product of
2048 x 2048 matrices in the same dtype. "floor" is the least time on paper over the measured one.
"""

from __future__ import annotations

import argparse
import re
import sys

from common import Store, parse

from swinv2.benchmark.attention import Case, benchmark_attention
from swinv2.benchmark.machine import Ceilings, measure_ceilings
from swinv2.benchmark.report import ceiling_lines, machine_lines, markdown, number

SHAPES = {  # first and third stage of SwinV2-T in the rows of compare.py
    "w8 64x64 h3 b8": {"grid": (64, 64), "window": (8, 8), "heads": 3, "batch": 8},
    "w8 16x16 h12 b8": {"grid": (16, 16), "window": (8, 8), "heads": 12, "batch": 8},
    "w16 64x64 h3 b4": {"grid": (64, 64), "window": (16, 16), "heads": 3, "batch": 4},
    "w24 96x96 h3 b2": {"grid": (96, 96), "window": (24, 24), "heads": 3, "batch": 2},
    "w32 256x256 h3 b1": {"grid": (256, 256), "window": (32, 32), "heads": 3, "batch": 1},
    "8x8x8 video 8x56x56 h3 b1": {"grid": (8, 56, 56), "window": (8, 8, 8), "heads": 3, "batch": 1},
}


def cases() -> dict[str, Case]:
    return {
        f"{name} {dtype} {direction}": Case(**shape, dtype=dtype, direction=direction)
        for name, shape in SHAPES.items()
        for dtype in ("fp32", "bf16")
        for direction in ("forward", "training")
    }


def report(store: Store) -> str:
    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.0%}"

    rows = [
        [
            name,
            each["backend"],
            each["error"] or number(1e3 * each["seconds"]),
            *(percent(each[column]) for column in ("bandwidth", "flops", "floor")),
        ]
        for name, row in store.rows.items()
        for each in row["backends"]
    ]
    ceilings = [Ceilings(**row["ceilings"]) for row in store.rows.values()]
    head = ["", "backend", "ms", "of copy bandwidth", "of matmul FLOP/s", "floor"]
    sections = ["# The attention operator", machine_lines(store.machine), *map(ceiling_lines, ceilings[-1:])]
    return "\n\n".join([*sections, markdown(head, rows, text_columns=2)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", help="with commas (default: sequential,sdpa, and triton on CUDA)")
    options = parse(parser)
    usual = "triton,sdpa,sequential" if options.device.type == "cuda" else "sequential,sdpa"
    backends = (options.backends or usual).split(",")
    store = Store("attention", options)
    ceilings = measure_ceilings(options.device)
    for name, case in cases().items():
        if re.search(options.rows, name):
            print(f"{name} ...", file=sys.stderr, flush=True)
            results = benchmark_attention(
                case, backends, ceilings, options.device, rounds=options.rounds, seconds=options.seconds
            )
            store.add(name, {"ceilings": ceilings.to_dict(), "backends": [each.to_dict() for each in results]})
    store.write(report(store))


if __name__ == "__main__":
    main()

"""SwinV2-T stage by stage on paper, the floor at the machine's measured ceilings, and what is reached.

    python benchmarks/roofline.py [--rows 'w8.*fp32'] [--device cuda]

How operations and bytes are counted: `swinv2.benchmark.roofline`.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from common import CASES, Store, parse

from swinv2.benchmark.document import document, floors_table
from swinv2.benchmark.machine import measure_ceilings
from swinv2.benchmark.model import Plan, benchmark_model


def report(store: Store) -> str:
    rows: dict[str, dict[str, Any]] = store.rows
    summary = ["# Floor and measurement", floors_table({name: row["result"] for name, row in rows.items()})]
    return "\n\n".join([*summary, *(document(f"SwinV2-T {name}", row["result"]) for name, row in rows.items())])


def main() -> None:
    options = parse(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    store = Store("roofline", options)
    ceilings = measure_ceilings(options.device)
    for case in CASES:
        for dtype in ("fp32", "bf16"):
            name = f"{case} {dtype}"
            if not re.search(options.rows, name):
                continue
            print(f"{name} ...", file=sys.stderr, flush=True)
            plan = Plan(
                image_size=(case.image_size,) * 2,
                batch=case.batch,
                dtypes=(dtype,),
                rounds=options.rounds,
                seconds=options.seconds,
            )
            result = benchmark_model(case.build(), plan, options.device, ceilings=ceilings)
            store.add(name, {"result": result})
    store.write(report(store))


if __name__ == "__main__":
    main()

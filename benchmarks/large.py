"""The paper's largest input: one step of SwinV2-T at 1536 x 1536 pixels with window 48, sequential attention, fp32.

    python benchmarks/large.py [--rows T] [--device cuda]

Times are of single calls; memory is of forward and backward together, above the loaded model.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import asdict

import torch
from common import Case, Store, parse
from torch import Tensor

from swinv2.benchmark.contenders import images
from swinv2.benchmark.memory import usage
from swinv2.benchmark.report import machine_lines, markdown

CASES = {"T w48 1536 b1": Case(48, 1536, 1)}
COLUMNS = ("evaluation, s", "forward, s", "backward, s", "peak MiB", "resident MiB")


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of one call."""
    started = time.perf_counter()
    call()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - started


def measure(case: Case, device: torch.device) -> dict[str, float]:
    """A forward pass in evaluation, then a forward and a backward pass in training."""
    model = case.build().to(device).eval()
    model.set_attention_backend("sequential")
    x = images(case.batch, 3, (case.image_size,) * 2, device)
    result: dict[str, float] = {}
    with torch.inference_mode():
        result[COLUMNS[0]] = seconds(lambda: model(x), device)
    model.train()
    losses: list[Tensor] = []

    def step() -> None:
        result[COLUMNS[1]] = seconds(lambda: losses.append(model(x).sum()), device)
        result[COLUMNS[2]] = seconds(losses.pop().backward, device)

    memory = asdict(usage(step, device))
    result[COLUMNS[3]] = memory["peak"] / 2**20
    result[COLUMNS[4]] = (memory["resident"] or 0) / 2**20
    return result


def main() -> None:
    options = parse(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    store = Store("large", options)
    for name, case in CASES.items():
        if re.search(options.rows, name):
            store.add(name, measure(case, options.device))
    rows = [(name, *(f"{row[column]:.4g}" for column in COLUMNS)) for name, row in store.rows.items()]
    store.write("\n\n".join(["# 1536 x 1536 pixels", machine_lines(store.machine), markdown(("", *COLUMNS), rows)]))


if __name__ == "__main__":
    main()

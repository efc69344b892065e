"""Images per second of SwinV2-T beside timm, torchvision and transformers, in one process, round by round.

    python benchmarks/compare.py [--rounds 11] [--threads N] [--out benchmarks/results]

Each round times every library once, in an order that rotates, and a fixed matrix product before and after; a round in
which that product is more than 15% slower than its median was disturbed and is dropped. Reported are medians and the
ratio to the fastest peer. Every model has random weights: the same work, whatever they are. bf16 means a model cast to
bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

import swinv2

CASES = [(8, 256, 8), (16, 256, 4), (24, 384, 2)]  # window, image size, batch
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Logits(nn.Module):
    """A transformers classifier that returns its logits."""

    def __init__(self, window: int, size: int) -> None:
        super().__init__()
        config = transformers.Swinv2Config(
            image_size=size,
            window_size=window,
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            num_labels=1000,
        )
        self.model = transformers.Swinv2ForImageClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x).logits


def models(window: int, size: int) -> dict[str, nn.Module]:
    built = {
        "swinv2": swinv2.create_model("swinv2_tiny", window_size=window, image_size=size),
        "timm": timm.create_model("swinv2_tiny_window8_256", window_size=window, img_size=size),
        "transformers": Logits(window, size),
    }
    if window == 8:  # the only window that torchvision has
        built["torchvision"] = torchvision.models.swin_v2_t()
    return built


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(window: int, size: int, batch: int, dtype: str, rounds: int) -> dict[str, object]:
    """Median images per second of each library, and what became of the rounds."""
    contenders = {name: model.eval().to(DTYPES[dtype]) for name, model in models(window, size).items()}
    x = torch.randn(batch, 3, size, size).to(DTYPES[dtype])
    square = torch.randn(1024, 1024)
    order = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in order}
    probes = []
    with torch.inference_mode():
        for name in order * 2:
            contenders[name](x)
        for _ in range(rounds):
            probe = seconds(lambda: square @ square)
            for name in order:
                times[name].append(seconds(lambda model=contenders[name]: model(x)))
            probes.append(max(probe, seconds(lambda: square @ square)))
            order = order[1:] + order[:1]
    limit = 1.15 * statistics.median(probes)
    kept = [i for i, probe in enumerate(probes) if probe <= limit]
    rates = {name: batch / statistics.median(values[i] for i in kept) for name, values in times.items()}
    fastest = max((rate, name) for name, rate in rates.items() if name != "swinv2")
    return {
        "window": window,
        "image_size": size,
        "batch": batch,
        "dtype": dtype,
        "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
        "fastest_peer": fastest[1],
        "ratio": round(rates["swinv2"] / fastest[0], 3),
        "rounds": rounds,
        "disturbed": rounds - len(kept),
    }


def machine() -> dict[str, object]:
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return {
        "processor": model[1] if model else platform.processor(),
        "threads": torch.get_num_threads(),
        "malloc": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "versions": {
            library.__name__: library.__version__ for library in (torch, timm, torchvision, transformers, swinv2)
        },
    }


def table(rows: list[dict[str, object]]) -> str:
    names = ["swinv2", "timm", "transformers", "torchvision"]
    lines = [
        "| SwinV2-T, eager inference | " + " | ".join(names) + " | swinv2 over the fastest peer |",
        "|---|" + "---:|" * (len(names) + 1),
    ]
    for row in rows:
        rates = [f"{row['images_per_second'].get(name, '-')}" for name in names]
        case = f"w{row['window']}, {row['image_size']} px, batch {row['batch']}, {row['dtype']}"
        lines.append(f"| {case} | {' | '.join(rates)} | {row['ratio']:.2f}x |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = []
    for window, size, batch in CASES:
        for dtype in DTYPES:
            rows.append(compare(window, size, batch, dtype, options.rounds))
            print(json.dumps(rows[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"compare-{platform.machine()}-{options.threads}threads.json"
    path.write_text(json.dumps({"machine": machine(), "results": rows}, indent=2) + "\n")
    path.with_suffix(".md").write_text(table(rows) + "\n")
    print(f"\n{table(rows)}\n\nwrote {path} and {path.with_suffix('.md').name}")


if __name__ == "__main__":
    main()

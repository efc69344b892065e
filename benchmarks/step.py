"""Milliseconds of one training step of a small SwinV2 on 32 x 32 images: forward, backward, AdamW; the median of 15.

python benchmarks/step.py [--model swinv2_micro] [--patch 4] [--window 8] [--batch 128]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

import swinv2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="swinv2_micro")
    parser.add_argument("--patch", type=int, default=4)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    model = swinv2.create_model(
        options.model, image_size=32, patch_size=options.patch, window_size=options.window, num_classes=10
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    images, labels = torch.randn(options.batch, 3, 32, 32), torch.randint(10, (options.batch,))
    times = []
    for _ in range(18):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(images).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    print(f"{vars(options)}: {1e3 * statistics.median(times[3:]):.0f} ms, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()

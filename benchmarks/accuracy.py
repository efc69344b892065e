"""Rounding errors of SwinV2-T in each library: relative RMS error of its logits against timm's model in fp64.

    python benchmarks/accuracy.py [--rows 'w8'] [--device cuda]

All libraries have the same random weights, norms included: at their initial zeros the norms of the residual branches
would hide every error. Ours in fp64 has to agree with timm's in fp64 to 1e-9, or the program stops.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Callable

import torch
from common import CASES, PEERS, Case, Store, parse
from torch import Tensor, nn

from swinv2.benchmark.contenders import images
from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.peers import build_peer
from swinv2.benchmark.report import machine_lines, markdown
from swinv2.benchmark.timing import one_line
from swinv2.model import SwinTransformer

AGREEMENT = 1e-9


def randomise(model: SwinTransformer) -> SwinTransformer:
    """Random values for every parameter, of the sizes that training gives them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "logit_scale" in name:
                parameter.uniform_(1.0, 3.0, generator=generator)
            elif parameter.ndim == 1 and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.normal_(0.0, 0.05 if parameter.ndim > 1 else 0.2, generator=generator)
    return model


def relative_rms(result: Tensor, reference: Tensor) -> float:
    """Root mean square of the difference over that of the reference."""
    return ((result.double() - reference).square().mean() / reference.square().mean()).sqrt().item()


def measure(case: Case, device: torch.device) -> dict[str, dict[str, float | str]]:
    """Error of each library by dtype; the text of an error where it failed."""
    size = (case.image_size,) * 2
    x = images(1, 3, size, device)
    own = randomise(case.build())

    def logits(build: Callable[[], nn.Module], dtype: torch.dtype) -> Tensor:
        gc.collect()
        with torch.inference_mode():
            return build().to(device, dtype).eval()(x.to(dtype)).double()

    builders: dict[str, Callable[[], nn.Module]] = {"swinv2": lambda: randomise(case.build())}
    builders |= {
        name: lambda name=name: build_peer(name, own, size)
        for name in PEERS
        if case.window == 8 or name != "torchvision"
    }
    reference = logits(builders["timm"], torch.float64)
    errors: dict[str, dict[str, float | str]] = {}
    for name, build in builders.items():
        errors[name] = {}
        for dtype in ("fp64", "fp32", "bf16") if name == "swinv2" else ("fp32", "bf16"):
            try:
                errors[name][dtype] = relative_rms(logits(build, DTYPES.get(dtype, torch.float64)), reference)
            except Exception as error:  # one library of several
                errors[name][dtype] = one_line(error)
    agreement = errors["swinv2"]["fp64"]
    if not isinstance(agreement, float) or agreement > AGREEMENT:
        raise SystemExit(f"{case}: swinv2 in fp64 differs from timm in fp64 by {agreement}, more than {AGREEMENT}.")
    return errors


def report(store: Store) -> str:
    def cell(row: dict[str, dict[str, dict[str, float | str]]], name: str, dtype: str) -> str:
        value = row["errors"].get(name, {}).get(dtype, "-")
        return value if isinstance(value, str) else f"{value:.2e}"

    columns = [("swinv2", "fp64"), *((name, dtype) for dtype in ("fp32", "bf16") for name in ("swinv2", *PEERS))]
    head = ["batch 1", *(f"{name}, {dtype}" for name, dtype in columns)]
    rows = [[name, *(cell(row, *column) for column in columns)] for name, row in store.rows.items()]
    explained = "Relative RMS error of the logits against timm's model in fp64; the same random weights everywhere."
    return "\n\n".join(["# Rounding errors", machine_lines(store.machine), explained, markdown(head, rows)])


def main() -> None:
    options = parse(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    store = Store("accuracy", options)
    for case in CASES:
        name = f"w{case.window} {case.image_size}"
        if re.search(options.rows, name):
            print(f"{name} ...", file=sys.stderr, flush=True)
            store.add(name, {"errors": measure(case, options.device)})
    store.write(report(store))


if __name__ == "__main__":
    main()

"""Rounding errors of SwinV2-T in each library: relative RMS error of its logits against timm's model in fp64.

    python benchmarks/accuracy.py [--rows 'w8'] [--draws 12] [--device cuda]

All libraries have the same random weights, norms included: at their initial zeros the norms of the residual branches
would hide every error. Ours in fp64 has to agree with timm's in fp64 to 1e-9, or the program stops. One draw of weights
and image moves an error by several per cent, hence the means over draws.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import sys
from collections.abc import Callable

import torch
from common import CASES, PEERS, Case, Store, parse
from torch import Tensor, nn

from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.peers import build_peer
from swinv2.benchmark.report import machine_lines, markdown
from swinv2.benchmark.timing import one_line
from swinv2.model import SwinTransformer

AGREEMENT = 1e-9
Errors = dict[str, dict[str, list[float | str]]]


def randomise(model: SwinTransformer, seed: int) -> SwinTransformer:
    """Random values for every parameter, of the sizes that training gives them."""
    generator = torch.Generator().manual_seed(seed)
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


def measure(case: Case, device: torch.device, draws: int) -> Errors:
    """Error of each library by dtype, one for each draw; the text of an error where it failed."""
    errors: Errors = {}
    for seed in range(draws):
        for name, by_dtype in measure_draw(case, device, seed).items():
            for dtype, error in by_dtype.items():
                errors.setdefault(name, {}).setdefault(dtype, []).append(error)
    return errors


def measure_draw(case: Case, device: torch.device, seed: int) -> dict[str, dict[str, float | str]]:
    """The same for one draw of weights and image."""
    size = (case.image_size,) * 2
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed)).to(device)
    own = randomise(case.build(), seed)

    def logits(build: Callable[[], nn.Module], dtype: torch.dtype) -> Tensor:
        gc.collect()
        with torch.inference_mode():
            return build().to(device, dtype).eval()(x.to(dtype)).double()

    builders: dict[str, Callable[[], nn.Module]] = {"swinv2": lambda: randomise(case.build(), seed)}
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


def mean_cell(errors: list[float | str]) -> str:
    """Mean over the draws, or the first text of a failure."""
    failed = [error for error in errors if isinstance(error, str)]
    return failed[0] if failed else f"{statistics.fmean(map(float, errors)):.2e}" if errors else "-"


def ratio_cell(own: list[float | str], peer: list[float | str]) -> str:
    """Ours over the peer's, mean and standard error over the draws."""
    if not peer or any(isinstance(error, str) for error in (*own, *peer)):
        return "-"
    ratios = [float(ours) / float(theirs) for ours, theirs in zip(own, peer, strict=True)]
    if len(ratios) == 1:
        return f"{ratios[0]:.3f}"
    return f"{statistics.fmean(ratios):.3f} ± {statistics.stdev(ratios) / len(ratios) ** 0.5:.3f}"


def report(store: Store) -> str:
    columns = [("swinv2", "fp64"), *((name, dtype) for dtype in ("fp32", "bf16") for name in ("swinv2", *PEERS))]
    head = ["batch 1", "draws", *(f"{name}, {dtype}" for name, dtype in columns), "to timm, fp32", "to timm, bf16"]
    rows = []
    for name, row in store.rows.items():
        errors: Errors = row["errors"]
        cells = [mean_cell(errors.get(library, {}).get(dtype, [])) for library, dtype in columns]
        ratios = [ratio_cell(errors["swinv2"][dtype], errors["timm"][dtype]) for dtype in ("fp32", "bf16")]
        rows.append([name, str(len(errors["swinv2"]["fp64"])), *cells, *ratios])
    explained = (
        "Relative RMS error of the logits against timm's model in fp64: mean over draws of random weights and image,"
        " the same for every library. Last: ours over timm's, mean and standard error over the draws."
    )
    return "\n\n".join(["# Rounding errors", machine_lines(store.machine), explained, markdown(head, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=12, help="of weights and image (default: %(default)s)")
    options = parse(parser)
    store = Store("accuracy", options)
    for case in CASES:
        name = f"w{case.window} {case.image_size}"
        if re.search(options.rows, name):
            print(f"{name} ...", file=sys.stderr, flush=True)
            store.add(name, {"errors": measure(case, options.device, options.draws)})
    store.write(report(store))


if __name__ == "__main__":
    main()

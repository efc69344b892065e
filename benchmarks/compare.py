"""SwinV2-T beside timm, transformers and torchvision: images a second and peak memory, inference and training.

    python benchmarks/compare.py [--device cuda] [--rows 'w8.*fp32'] [--rounds 11] [--seconds 120] [--out FOLDER]

All libraries have the same weights, threads and allocator, and torch.compile its default mode; see contest.py. --draw
only writes table and chart from the rows that are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from common import CASES, PEERS, Case, Store, can_draw
from contest import Contest, Row
from torch import nn

from swinv2.benchmark.peers import build_peer
from swinv2.benchmark.report import number


def peer(library: str, case: Case, drop_path_rate: float) -> nn.Module:
    """Another library's model with our weights."""
    return build_peer(library, case.build(drop_path_rate), case.size)


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
MODELS: dict[str, Callable[[Case, float], nn.Module]] = {
    "swinv2": Case.build,
    **{library: partial(peer, library) for library in PEERS},
}
CONTEST = Contest(
    script=__file__,
    title="SwinV2-T beside other libraries",
    unit="images",
    rows=ROWS,
    builders=MODELS,
    ours="swinv2",
    peers=PEERS,
    ratio="the ratio is that of swinv2 to the fastest peer",
    share="of the least of a peer",
    takes_part=lambda name, case: name != "torchvision" or case.window == 8,  # it has others where no map is smaller
)


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
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    options = CONTEST.parse(parser)
    if options.memory_of:
        return CONTEST.print_memory(options.memory_of, options.contender, options.device)
    store = Store("compare", options)
    if not options.draw:
        CONTEST.run(store, options)
    store.write(CONTEST.report(store))
    if can_draw():
        draw(store)
    return None


if __name__ == "__main__":
    main()

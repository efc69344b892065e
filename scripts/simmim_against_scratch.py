"""Does SimMIM help where labels are few? Pre-trains on all images of CIFAR-10, once, then trains on some labelled
ones from there and from scratch, once a seed:

    python scripts/simmim_against_scratch.py SHARDS [--out runs/few_labels] [--labelled 2500] [--seeds 3]

A run that is there already is not run again, and one that was cut off goes on. Leaves table.md and curves.png beside
the runs.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import shutil
import statistics
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from swinv2.train.options import Recipe
from swinv2.train.plots import save
from swinv2.train.recipe import load_recipe
from swinv2.train.run import train

RECIPES = Path(__file__).parent.parent / "recipes"
WAYS = {"from SimMIM": "C0", "from scratch": "C1"}


def main() -> None:
    """Run what is missing, then write table and curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="folder of train-*.tar, test-*.tar and classes.txt")
    parser.add_argument("--out", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--labelled", type=int, default=2500, help="images of the fine-tuning")
    parser.add_argument("--tested", type=int, default=2500, help="images of the test")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    few = few_labels(options.shards, options.out / "labelled", {"train": options.labelled, "test": options.tested})
    pretrained = options.out / "pretraining"
    run(recipe("cifar10_simmim", options.shards, 0), pretrained)
    for seed in range(options.seeds):
        for way in WAYS:
            weights = str(pretrained / "best.safetensors") if way == "from SimMIM" else None
            run(recipe("cifar10_2500", few, seed, weights), options.out / folder(way, seed))
        report(options.out, seed + 1)


def few_labels(shards: Path, out: Path, counts: dict[str, int]) -> Path:
    """The first images of each part of the shards, whose order is random."""
    if out.exists():
        return out
    draft = out.with_name(out.name + ".draft")
    draft.mkdir(parents=True, exist_ok=True)
    for part, count in counts.items():
        with tarfile.open(draft / f"{part}-0000.tar", "w") as chosen:
            for member, content in itertools.islice(files(sorted(shards.glob(f"{part}-*.tar"))), 2 * count):
                chosen.addfile(member, io.BytesIO(content))
    shutil.copy(shards / "classes.txt", draft)
    draft.rename(out)
    return out


def files(tars: list[Path]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Image and label files of shards, in order."""
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                if (file := tar.extractfile(member)) is not None:
                    yield member, file.read()


def recipe(name: str, data: Path, seed: int, weights: str | None = None) -> Recipe:
    """A recipe with its data, seed and initial weights."""
    whole = load_recipe(RECIPES / f"{name}.yaml")
    model = replace(whole.model, name=None if weights else whole.model.name, weights=weights)
    return replace(whole, seed=seed, model=model, data=replace(whole.data, path=str(data)))


def run(what: Recipe, out: Path) -> None:
    """Train unless it is done."""
    if not (out.exists() and len(rows(out)) == what.trainer.epochs):
        train(what, out, resume=out.exists())


def folder(way: str, seed: int) -> str:
    """Name of a run."""
    return f"{way.replace(' ', '-')}-{seed}"


def rows(out: Path) -> list[dict[str, str]]:
    """Epochs of a run."""
    if not (out / "metrics.csv").exists():
        return []
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def report(out: Path, seeds: int) -> None:
    """Table and curves of the seeds that are done."""
    lines = ["| | last top-1, a seed each | mean | standard deviation |", "|---|---|---:|---:|"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for way, colour in WAYS.items():
        curves = [[float(row["val_top1"]) for row in rows(out / folder(way, seed))] for seed in range(seeds)]
        for seed, curve in enumerate(curves):
            axes.plot(range(1, len(curve) + 1), curve, color=colour, label=way if seed == 0 else None)
        last = [curve[-1] for curve in curves]
        spread = f"{statistics.stdev(last):.2%}" if seeds > 1 else "-"
        each = ", ".join(f"{top1:.2%}" for top1 in last)
        lines.append(f"| {way} | {each} | {statistics.mean(last):.2%} | {spread} |")
    axes.set(xlabel="epoch", ylabel="top-1 on the test images", title=f"Few labels, {seeds} seeds")
    axes.legend()
    save(figure, out / "curves.png")
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()

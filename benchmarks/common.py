"""What the benchmarks share: the cases, their options, and how results are kept."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from swinv2.benchmark.machine import describe
from swinv2.config import Axes
from swinv2.files import written_aside
from swinv2.model import SwinTransformer, create_model

RESULTS = Path(__file__).parent / "results"
PEERS = ("timm", "transformers", "torchvision")
DROP_PATH = 0.2


@dataclass(frozen=True)
class Case:
    """SwinV2-T at a window, an image size and a batch."""

    window: int
    image_size: int
    batch: int

    @property
    def size(self) -> Axes:
        """Of an image."""
        return (self.image_size, self.image_size)

    def build(self, drop_path_rate: float = 0.0) -> SwinTransformer:
        """The model with fresh weights, the same each time."""
        torch.manual_seed(0)
        return create_model(
            "swinv2_tiny", window_size=self.window, image_size=self.image_size, drop_path_rate=drop_path_rate
        )

    def __str__(self) -> str:
        return f"w{self.window} {self.image_size} b{self.batch}"


CASES = (Case(8, 256, 8), Case(16, 256, 4), Case(24, 384, 2), Case(32, 1024, 1))


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the options of a benchmark and those that all have, and set device and threads."""
    add = parser.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda (default: %(default)s)")
    add("--threads", type=int, default=torch.get_num_threads(), help="of the CPU (default: %(default)s)")
    add("--rows", default="", metavar="REGEX", help="only the rows whose name this matches somewhere")
    add("--rounds", type=int, default=11, help="at most so many (default: %(default)s)")
    add(
        "--seconds", type=float, default=120, help="budget of a row; three rounds are run anyhow (default: %(default)s)"
    )
    add("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where results are kept (default: %(default)s)")
    add("--overwrite", action="store_true", help="begin anew where results of another machine or version are kept")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.device = torch.device(options.device)
    return options


class Store:
    """Results of one benchmark on one machine: rows by name in a JSON file, written after every row."""

    def __init__(self, kind: str, options: argparse.Namespace) -> None:
        self.machine = describe(options.device)
        self.path: Path = options.out / f"{kind}-{_slug(self.machine)}.json"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.path.exists() and not options.overwrite:
            kept = json.loads(self.path.read_text())
            if kept.get("machine") != self.machine:
                raise SystemExit(
                    f"{self.path} was measured on another machine, or with other threads, versions or allocator "
                    "settings: choose another --out, or --overwrite it."
                )
            self.rows = {row["name"]: row for row in kept["results"]}

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep a row, in the place of one of that name."""
        self.rows[name] = {"name": name, **row}
        text = json.dumps({"machine": self.machine, "results": list(self.rows.values())}, indent=2)
        with written_aside(self.path) as draft:
            draft.write_text(text + "\n")

    def write(self, text: str) -> None:
        """Write the Markdown beside the JSON."""
        with written_aside(self.path.with_suffix(".md")) as draft:
            draft.write_text(text + "\n")
        print(f"\n{text}\n\nwrote {self.path} and {self.path.with_suffix('.md').name}")


def _slug(machine: dict[str, Any]) -> str:
    """Name of a machine in file names."""
    name = machine["device"] if machine["device"] != "cpu" else f"{machine['processor']} {machine['threads']} threads"
    return re.sub(r"\W+", "-", name).strip("-").lower()


def can_draw() -> bool:
    """Whether matplotlib is here; a bare machine with a GPU may lack it, and the JSON can be drawn elsewhere."""
    return find_spec("matplotlib") is not None

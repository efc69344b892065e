"""How far this library's logits are from those of the libraries whose weights it reads; writes docs/parity.md.

    python scripts/parity.py            some minutes; writes docs/parity.md
    python scripts/parity.py --small    the same cases with small models, printed only: what the tests run

Each case builds a reference with random weights (tests/checkpoint/peers.py), loads its state dict with `swinv2.load`,
compares the two on the same images, and converts the state dict to its own format again.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import swinv2
from swinv2.checkpoint import writing
from swinv2.checkpoint.layouts import BUFFERS, FORMATS
from swinv2.files import written_aside
from swinv2.info import ModelInfo
from swinv2.storage import Stored

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "checkpoint"))
import peers  # noqa: E402
from peers import Peer, Spec  # noqa: E402


@dataclass(frozen=True)
class Reference:
    """A format, what builds its reference, and what the table calls it."""

    format: str
    build: Callable[[Spec], Peer]
    words: str


REFERENCES = {
    "microsoft": Reference("microsoft", peers.microsoft, "plain definition"),
    "microsoft by timm": Reference("microsoft", peers.microsoft_by_timm, "timm, by its checkpoint_filter_fn"),
    "simmim": Reference("microsoft", peers.simmim, "plain definition, SimMIM encoder (features)"),
    "timm": Reference("timm", peers.timm, "timm"),
    "transformers": Reference("transformers", peers.transformers_classifier, "transformers, ForImageClassification"),
    "transformers bare": Reference("transformers", peers.transformers_bare, "transformers, Model (features)"),
    "transformers masked": Reference(
        "transformers", peers.transformers_masked, "transformers, ForMaskedImageModeling (features)"
    ),
    "torchvision": Reference("torchvision", peers.torchvision, "torchvision"),
    "mmpretrain": Reference("mmpretrain", peers.mmpretrain, "plain definition, merging by nn.Unfold"),
}

# Each size and setting as it is, and as the tests have it: two stages of two blocks, 32 channels.
_TINY = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "num_classes": 1000}
_BASE = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32), "num_classes": 1000}
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tiny": (_TINY, {}),
    "base": (_BASE, {}),
    "H-like": (
        {**_BASE, "embed_dim": 96, "num_heads": (3, 6, 12, 24), "extra_norm_interval": 6},
        {"depths": (2, 4), "extra_norm_interval": 2},
    ),
}


def _square(window: int, size: int, trained: tuple[int, ...] | None = None) -> dict[str, Any]:
    return {"window": (window, window), "image_size": (size, size), "trained": trained}


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "w6": (_square(6, 192), _square(4, 32)),
    "w7": (_square(7, 224), _square(4, 32)),
    "w8": (_square(8, 256), _square(4, 32)),
    "w12": (_square(12, 384), _square(8, 64)),
    "w12 small": (_square(12, 192), _square(8, 32)),
    "w16": (_square(16, 256), _square(8, 32)),
    "w16 large": (_square(16, 512), _square(8, 64)),
    "w24 from 12": (_square(24, 384, (12, 12, 12, 6)), _square(8, 32, (4, 2))),
    "w24 from 12 large": (_square(24, 768, (12, 12, 12, 6)), _square(8, 64, (4, 2))),
    "clips": (
        {"window": (8, 7, 7), "image_size": (16, 224, 224), "num_classes": 400},
        {"window": (2, 4, 4), "image_size": (16, 32, 32)},
    ),
    "short clips": (
        {"window": (8, 7, 7), "image_size": (4, 224, 224), "num_classes": 400},
        {"window": (2, 4, 4), "image_size": (2, 32, 32)},
    ),
}


@dataclass(frozen=True)
class Case:
    """One row: keys of `REFERENCES`, `SIZES` and `SETTINGS`."""

    reference: str
    version: int
    size: str
    setting: str

    def spec(self, small: bool) -> Spec:
        """The architecture."""
        return Spec(version=self.version, **{**SIZES[self.size][small], **SETTINGS[self.setting][small]})

    def labels(self, small: bool) -> tuple[str, ...]:
        """What the row says before its figures."""
        spec, reference = self.spec(small), REFERENCES[self.reference]
        kind = f"V{self.version}{' video' if len(spec.window) == 3 else ''} {self.size}"
        window = _by(spec.window)
        trained = "same" if spec.trained is None else ", ".join(map(str, spec.trained))
        return reference.format, kind, window, trained, _by(spec.image_size), reference.words


def _by(sizes: Iterable[int]) -> str:
    sizes = tuple(sizes)
    return str(sizes[0]) if sizes == sizes[:1] * 2 else " x ".join(map(str, sizes))


CASES = (
    Case("microsoft", 1, "tiny", "w7"),
    Case("microsoft", 1, "base", "w12"),
    Case("microsoft", 2, "tiny", "w8"),
    Case("microsoft", 2, "tiny", "w16"),
    Case("microsoft", 2, "base", "w24 from 12"),
    Case("microsoft", 2, "H-like", "w8"),
    Case("microsoft by timm", 1, "tiny", "w7"),
    Case("microsoft by timm", 2, "tiny", "w8"),
    Case("microsoft by timm", 2, "tiny", "w16"),
    Case("microsoft by timm", 2, "base", "w24 from 12"),
    Case("simmim", 1, "base", "w6"),
    Case("simmim", 2, "base", "w12 small"),
    Case("simmim", 2, "H-like", "w12 small"),
    Case("timm", 1, "tiny", "w7"),
    Case("timm", 1, "base", "w12"),
    Case("timm", 2, "tiny", "w8"),
    Case("timm", 2, "tiny", "w16"),
    Case("timm", 2, "base", "w24 from 12"),
    Case("transformers", 1, "tiny", "w7"),
    Case("transformers", 1, "base", "w12"),
    Case("transformers", 2, "tiny", "w8"),
    Case("transformers", 2, "tiny", "w16"),
    Case("transformers", 2, "base", "w24 from 12"),
    Case("transformers bare", 1, "tiny", "w7"),
    Case("transformers bare", 2, "tiny", "w8"),
    Case("transformers masked", 1, "base", "w6"),
    Case("transformers masked", 2, "tiny", "w8"),
    Case("torchvision", 1, "tiny", "w7"),
    Case("torchvision", 2, "tiny", "w8"),
    Case("torchvision", 2, "tiny", "w16 large"),
    Case("torchvision", 2, "tiny", "w24 from 12 large"),
    Case("torchvision", 1, "tiny", "clips"),
    Case("torchvision", 1, "tiny", "short clips"),
    Case("torchvision", 1, "base", "clips"),
    Case("mmpretrain", 1, "tiny", "w7"),
    Case("mmpretrain", 1, "base", "w12"),
    Case("mmpretrain", 2, "tiny", "w8"),
    Case("mmpretrain", 2, "tiny", "w16"),
    Case("mmpretrain", 2, "base", "w24 from 12"),
    Case("mmpretrain", 2, "H-like", "w8"),
)


@dataclass(frozen=True)
class Figures:
    """Largest difference of the logits over the reference's largest logit in fp32, and what a round trip changed."""

    fp32: float
    bf16: float
    reference_bf16: float
    changed: tuple[str, ...]
    spread: float
    """Standard deviation of the reference's logits: a model that answers the same to everything proves nothing."""


def measure(case: Case, small: bool) -> Figures:
    """Build, load, compare and convert back."""
    spec = case.spec(small)
    peer = REFERENCES[case.reference].build(spec)
    images = torch.randn(1, 3, *spec.image_size, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the mask token and decoder")
        ours = swinv2.load(peer.state, **peer.untold)
    changed = changed_parameters(peer)
    with torch.inference_mode():
        want, got = peer.run(images), ours(images)
        got_bf16 = ours.bfloat16()(images.bfloat16())
        peer.model.bfloat16()
        want_bf16 = peer.run(images.bfloat16())
    return Figures(
        fp32=relative_error(got, want),
        bf16=relative_error(got_bf16, want),
        reference_bf16=relative_error(want_bf16, want),
        changed=changed,
        spread=want.std().item(),
    )


def relative_error(got: Tensor, want: Tensor) -> float:
    """The largest difference over the largest wanted value."""
    return ((got.float() - want).abs().max() / want.abs().max()).item()


def changed_parameters(peer: Peer) -> tuple[str, ...]:
    """Parameters that are not, bit for bit, what they were when our names have been put on and taken off again."""
    back = swinv2.convert(peer.state, to=peer.format, **peer.untold)
    was = {name: tensor for name, tensor in peer.state.items() if name.rpartition(".")[2] not in BUFFERS}
    return tuple(name for name, tensor in was.items() if name not in back or not torch.equal(back[name], tensor))


KINDS: dict[str, dict[str, Any]] = {
    "V1": {"name": "swin_tiny"},
    "V2": {"name": "swinv2_nano"},
    "V2 with extra norms (H and G)": {"name": "swinv2_nano", "extra_norm_interval": 2},
    "V1 video": {"name": "swin_video_tiny"},
    "V2 video": {"name": "swinv2_video_nano"},
    "an ablation of the paper, such as the sandwich norm": {"name": "swinv2_nano", "norm_placement": "sandwich"},
}
"""What a format may be able to hold, each shown by the smallest model."""


def refusal(kind: str, to: str) -> str:
    """The sentence that refuses to write a kind of model in a format; empty where it can be written."""
    with torch.device("meta"):
        model = swinv2.create_model(**KINDS[kind], num_classes=2)
    try:
        writing.state_dict(Stored(model.config, model.state_dict(), ModelInfo()), to)
    except ValueError as error:
        return str(error)
    return ""


INTRODUCTION = """# Parity with the other libraries

Written by `python scripts/parity.py`; `tests/checkpoint/test_parity.py` runs the same cases with small models.

**What is measured.** Each reference is built with random weights, every norm, bias, table and logit scale included:
at their initial values many of them are 0 or 1 and would hide a mistake. Its state dict is loaded with `swinv2.load`,
and both models see the same image of random pixels. *fp32* is the largest difference of any logit over the
reference's largest logit, both models in fp32; the target is 1e-5. *bf16* is the same for our model cast to bfloat16,
and *reference bf16* for the reference cast to bfloat16, both against the reference in fp32: rounding alone makes
differences of that size. 0 is found where both models come down to the same operators of PyTorch. A model without a
head is compared by its averaged features. *Round trip* says whether every parameter was the same, bit for bit, after a
conversion to our names and back. *Trained window* is that of each stage: fine-tuning at another window leaves it as it
was; *same* is the window itself, or the map where that is smaller. *H-like* has the depths of H and its extra norms, at
96 channels.

**At which sizes.** Only where no stage has to be padded and, for video, no height or width is below the window.
Elsewhere the libraries compute something else than we do, by intention of ours: none of them masks padded keys, timm
rolls before it pads, and torchvision's video models take the wrong part of the bias table for a window that is shrunk
in height or width. A stage whose map is smaller than the window attends to all of it; torchvision's image models pad
it instead, so theirs are measured at larger images.

**With what.** Microsoft's repository is no package, and mmpretrain cannot be installed beside current ones.
Microsoft's layout is compared with a plain definition written for the tests (`tests/checkpoint/plain.py`), and with
timm's class filled by timm's own reader of that layout; mmpretrain's with the plain definition, its patch merging by
`nn.Unfold` as mmpretrain does it. The others are compared with their own classes. torchvision has no setting for a
trained window, but keeps it in its buffers. The figures are of the CPU, with
{versions}.
"""
TARGET = 1e-5
HEADER = (
    "format", "model", "window", "trained window", "image", "reference", "fp32", "bf16", "reference bf16", "round trip"
)  # fmt: skip


def document(rows: Iterable[tuple[str, ...]]) -> str:
    """The page."""
    libraries = ("torch", "timm", "transformers", "torchvision")
    introduction = INTRODUCTION.format(versions=", ".join(f"{name} {version(name)}" for name in libraries))
    formats = [name for name in FORMATS if name != "swinv2"]
    refusals = {kind: [refusal(kind, to) for to in formats] for kind in KINDS}
    holds = [(kind, *("no" if sentence else "yes" for sentence in found)) for kind, found in refusals.items()]
    sentences = "\n".join(f"- {max(found)}" for found in refusals.values() if any(found))
    return f"""{introduction}
{table(HEADER, rows)}

## What a format cannot hold

Our own format holds every model. `swinv2.convert` and `swinv2.save` refuse to write what another library has no class
for:

{table(("model", *formats), holds)}

A refusal of each line reads:

{sentences}
"""


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    lines = [" | ".join(cells) for cells in (header, ["---"] * len(tuple(header)), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def row(case: Case, small: bool, figures: Figures) -> tuple[str, ...]:
    """A line of the table."""
    errors = (f"{error:.1e}" for error in (figures.fp32, figures.bf16, figures.reference_bf16))
    return *case.labels(small), *errors, f"{len(figures.changed)} changed" if figures.changed else "exact"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small models; only prints")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "parity.md")
    arguments = parser.parse_args()
    rows, missed, start = [], 0, time.perf_counter()
    for number, case in enumerate(CASES, start=1):
        figures = measure(case, arguments.small)
        rows.append(row(case, arguments.small, figures))
        missed += not figures.fp32 <= TARGET or bool(figures.changed)  # NaN misses too
        print(f"[{number}/{len(CASES)}, {time.perf_counter() - start:.0f} s]", ", ".join(rows[-1]), flush=True)
    if not arguments.small:
        with written_aside(arguments.out) as aside:
            aside.write_text(document(rows), encoding="utf-8")
        print(f"wrote {arguments.out}")
    if missed:
        sys.exit(f"{missed} of {len(CASES)} cases miss the target")


if __name__ == "__main__":
    main()

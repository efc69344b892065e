"""The command `swinv2`: one module a verb, imported when that verb runs, so that help is quick."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from swinv2 import __version__

VERBS = {
    "train": "train a model from a recipe",
    "evaluate": "measure a weights file on labelled images",
    "predict": "name what is on images",
    "convert": "bring weights into another format, window or resolution",
    "export": "write a program for torch.export or ONNX",
    "plan": "say what a training step needs, and on which cards it fits",
    "benchmark": "measure a model's speed and memory on this machine",
    "study": "run one of the paper's comparisons here, and see which of its claims hold",
    "models": "list the models by name",
}
EXTRAS = {"av": "video", "faster_coco_eval": "detect", "export": "export"}
"""Extra that brings a package, or all that a verb needs, where it is not train."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status: 0, 2 for wrong input, 130 for Ctrl-C, 141 for a closed pipe."""
    chosen = _parser().parse_args(arguments)
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
        importlib.import_module(f"swinv2.cli.{chosen.verb}").main(chosen.arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `swinv2 models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        return _fail(f"error: {error}", 2)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("swinv2"):
            raise
        extra = EXTRAS.get(error.name.partition(".")[0]) or EXTRAS.get(chosen.verb, "train")
        return _fail(f"error: {error.name} is missing: install it with pip install 'swinv2[{extra}]'.", 2)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped by Ctrl-C", 130)
    return 0


def _parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {verb:<10} {what}" for verb, what in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="swinv2",
        description="Swin Transformer V2: train it, measure it, use it.",
        epilog=f"verbs:\n{verbs}\n\n`swinv2 VERB --help` explains each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of the verbs below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    return parser


def _fail(message: str, status: int) -> int:
    print(f"swinv2: {message}", file=sys.stderr)
    return status

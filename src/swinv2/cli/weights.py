"""What the verbs that use a weights file have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch.utils.data import DataLoader

from swinv2.checkpoint import native
from swinv2.data.loading import Batch, Samples, make_loader
from swinv2.data.sources import ImageSource
from swinv2.data.transforms import eval_transform
from swinv2.model import SwinTransformer
from swinv2.preprocessing import Preprocessing

T = TypeVar("T")


@dataclass(frozen=True)
class Classifier:
    """A model that knows its classes and its input."""

    model: SwinTransformer
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    extra: Mapping[str, str]

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """From a weights file alone."""
        loaded = native.load(path)
        if not loaded.classes or loaded.preprocessing is None:
            raise ValueError(f"{path} has no classes or no preprocessing: save it with both, as `swinv2 train` does.")
        return cls(loaded.model, loaded.classes, loaded.preprocessing, loaded.extra)

    def loader(self, source: ImageSource, *, batch_size: int, workers: int, strict: bool) -> DataLoader[Batch]:
        """Batches of a source as this model wants them."""
        samples = Samples(source, eval_transform(self.preprocessing), self.preprocessing.channels, strict)
        return make_loader(samples, batch_size=batch_size, shuffle=False, workers=workers)


def with_progress(batches: Iterable[T], total: int) -> Iterator[T]:
    """The batches, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(batches, total=total, console=console, disable=not sys.stderr.isatty(), transient=True))

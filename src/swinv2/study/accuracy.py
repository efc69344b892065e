"""Accuracy of trained weights at another window and resolution, without fine-tuning, or without position bias."""

from __future__ import annotations

from pathlib import Path

from swinv2.checkpoint import load
from swinv2.data.labelled import labelled_images
from swinv2.data.loading import make_loader
from swinv2.data.sources import open_split
from swinv2.data.transforms import eval_transform
from swinv2.preprocessing import Preprocessing
from swinv2.study.biases import leave_out_bias, scaled
from swinv2.tasks.inference import best_device, infer
from swinv2.tasks.metrics import ClassificationMetrics
from swinv2.train.folder import RunFolder
from swinv2.train.recipe import load_recipe


def top1_at(run: Path, ratio: float, *, biased: bool = True) -> float:
    """Share of the validation images that the weights which a run kept name rightly.

    Args:
        run: folder of a training of ours, which tells its data.
        ratio: factor on the window and on the image size.
        biased: with the position bias that was learned; else with none, which tells what it is worth.
    """
    folder = RunFolder(run)
    model = load(folder.best)
    if ratio != 1:
        model = load(folder.best, window_size=scaled(model.config.window_size, ratio))
    if not biased:
        leave_out_bias(model)
    known = model.info.preprocessing
    assert known is not None
    data = load_recipe(folder.config).data
    seen = Preprocessing(**{**vars(known), "size": tuple(round(ratio * size) for size in known.size)})
    source = open_split(data, "val")
    samples = labelled_images(source, eval_transform(seen), seen.channels, data.strict)
    loader = make_loader(samples, batch_size=64, shuffle=False, workers=data.workers)
    metrics = ClassificationMetrics(len(source.classes))
    for batch, logits in infer(model, loader, best_device()):
        metrics.update(logits, batch.labels)
    return metrics.scalars()["top1"]

"""A training run from a recipe to its folder."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from swinv2.data.loading import Loader, Samples, make_loader
from swinv2.data.sources import ImageSource, open_split
from swinv2.data.transforms import eval_transform, mixing, train_transform
from swinv2.model import SimMIM, SwinTransformer
from swinv2.tasks.base import Diverged, Optimise, Task
from swinv2.tasks.classify import ClassificationTask
from swinv2.train import simmim
from swinv2.train.callbacks import BestWeights, Ema, EpochRows, Progress, Say, SkippedFiles, Start
from swinv2.train.consolidate import read_details
from swinv2.train.folder import RunFolder
from swinv2.train.initial import Initial, initial
from swinv2.train.optim import optimise
from swinv2.train.options import ClassifyRecipe, TrainerOptions
from swinv2.train.recipe import dump_recipe
from swinv2.train.resume import Interrupted, Resumable, WholeCheckpoints, sweep
from swinv2.train.strategies import lost_peer, make_strategy, placement, processes, shard_when_ready

SHOWN_CLASSES = 5
"""So many classes are named at the start."""


def train(recipe: ClassifyRecipe, out: Path, *, resume: bool = False, say: Say = print) -> RunFolder:
    """Train as the recipe says and leave everything in the folder `out`.

    A start that fails before its first step leaves no folder.

    Args:
        recipe: What to train.
        out: The run folder; it must not exist, or, with `resume`, be one that `train` left.
        resume: Go on from its last checkpoint, or from the start where it has none yet.
        say: Receives a line of what is trained on, and one an epoch.

    Raises:
        ValueError: The recipe, the data or the folder cannot be used, or (`Diverged`) the loss or the weights are not
            finite; the message says why, and what to do.
        OSError: A file cannot be written, or (ConnectionError) another process of the training has ended.
        KeyboardInterrupt: Ctrl-C; the folder is complete, and the message says how to go on.
    """
    folder = RunFolder(out)
    _check(folder, resume, recipe.trainer)
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    labelled, last = recipe.task == "classify", folder.last if resume and folder.last.exists() else None
    training, validation = (open_split(recipe.data, split, labelled=labelled) for split in ("train", "val"))
    start = initial(recipe, training.classes, last) if labelled else simmim.initial(recipe, last)
    recipe = start.recipe
    resumable = Resumable(folder.last, recipe.seed, recipe.trainer.save_every)
    callbacks = _callbacks(start, folder, training, validation, say)
    if not resume:
        folder.create(dump_recipe(recipe))
    try:
        with _quiet_lightning(), resumable.heeding_interrupts():
            trainer = _trainer(recipe, folder, [*callbacks, resumable], len(training))
            loaders = _loaders(recipe, training, validation, trainer)
            task = _task(recipe, start.model, training.classes, len(loaders[0]))
            _fit(trainer, task, loaders, resumable, folder, last is not None)
    except BaseException as error:
        if not (resume or resumable.started):
            folder.remove()
        told = _told(error, folder)
        if told is error:
            raise
        raise told from None
    return folder


def _told(error: BaseException, folder: RunFolder) -> BaseException:
    """An error with what people should do after it."""
    on = f"go on with: swinv2 train --resume {folder.path}" if folder.last.exists() else "nothing was kept"
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt(f"stopped by Ctrl-C; {on}")
    if isinstance(error, Diverged):
        return Diverged(f"{error} {_last_good(folder)}")
    if lost_peer(error):
        reason = " ".join(str(error).split())[:200]
        return ConnectionError(f"another process of this training has ended ({reason}); {on}")
    return error


def _last_good(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "No checkpoint was written yet."
    step = read_details(folder.last)["global_step"]
    return f"The last good checkpoint, after step {step}, is {folder.last}."


@rank_zero_only
def _check(folder: RunFolder, resume: bool, options: TrainerOptions) -> None:
    if resume and not (folder.last.exists() or folder.config.exists()):
        raise ValueError(f"{folder.path} has no {folder.last.name} to resume from: start again with another --out.")
    there = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ValueError(
            f"run folder {folder.path} cannot be written, for want of permission in {there}: choose another."
        )
    sweep(folder.last)
    trained = int(folder.rows[-1]["epoch"] or 0) if folder.rows else 0
    if resume and trained > options.epochs:
        raise ValueError(f"trainer.epochs {options.epochs} is below the {trained} epochs of {folder.path}: give more.")
    if resume and folder.last.is_dir() and processes(options) == 1:
        raise ValueError(
            f"{folder.last} is in parts for several processes: resume with as many, or make one file of its weights by "
            "python -m swinv2.train.consolidate and start a new run from that."
        )
    if not resume and folder.path.exists():
        resuming = f", or go on with --resume {folder.path}" if folder.last.exists() else ""
        raise ValueError(f"run folder {folder.path} exists: choose another --out{resuming}.")


def _task(recipe: ClassifyRecipe, model: SwinTransformer | SimMIM, classes: tuple[str, ...], batches: int) -> Task:
    steps = recipe.trainer.epochs * math.ceil(batches / recipe.trainer.accumulate)
    make_optimiser = partial(optimise, recipe=recipe, total_steps=steps)
    task = _bare_task(recipe, model, classes, make_optimiser)
    if recipe.trainer.strategy == "fsdp" and processes(recipe.trainer) > 1:
        shard_when_ready(task, model)
    return task


def _bare_task(
    recipe: ClassifyRecipe, model: SwinTransformer | SimMIM, classes: tuple[str, ...], make_optimiser: Optimise
) -> Task:
    if isinstance(model, SimMIM):
        return simmim.task(recipe, model, make_optimiser)
    return ClassificationTask(
        model,
        classes,
        optimise=make_optimiser,
        mixing=mixing(recipe.augment, len(classes)),
        label_smoothing=recipe.augment.label_smoothing,
    )


def _callbacks(
    start: Initial, folder: RunFolder, training: ImageSource, validation: ImageSource, say: Say
) -> list[Callback]:
    recipe = start.recipe
    decay = recipe.trainer.ema_decay
    return [
        Start(folder, dump_recipe(recipe), start.remarks, describe_data(training, validation), say),
        BestWeights(folder) if recipe.task == "classify" else simmim.BestReconstructions(folder, recipe, validation),
        *([Ema(decay=decay)] if decay is not None else []),
        EpochRows(folder, say),
        SkippedFiles(folder, dict.fromkeys(training.skipped + validation.skipped)),
        LearningRateMonitor("step"),
        *([Progress()] if sys.stderr.isatty() else []),
    ]


def describe_data(training: ImageSource, validation: ImageSource) -> str:
    """The beginning of the log: classes, if there are any, and images."""
    classes, images = training.classes, f"{len(training)} + {len(validation)} images"
    if not classes:
        return images
    shown = ", ".join(classes[:SHOWN_CLASSES]) + (", ..." if len(classes) > SHOWN_CLASSES else "")
    return f"{len(classes)} classes ({shown}), {images}"


def _trainer(recipe: ClassifyRecipe, folder: RunFolder, callbacks: list[Callback], images: int) -> L.Trainer:
    options = recipe.trainer
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            strategy=make_strategy(options),
            **placement(options),
            precision=options.precision,
            max_epochs=options.epochs,
            max_time=timedelta(minutes=options.max_minutes) if options.max_minutes else None,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=recipe.optimizer.clip_norm,
            callbacks=callbacks,
            plugins=[WholeCheckpoints()],
            use_distributed_sampler=False,  # the loaders know their process
            logger=TensorBoardLogger(folder.path, name="", version=folder.tensorboard.name),
            log_every_n_steps=min(50, max(1, images // options.batch_size)),
            default_root_dir=folder.path,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, Progress) for callback in callbacks),
        )
    except MisconfigurationException as error:
        raise ValueError(f"Lightning cannot run these trainer options: {' '.join(str(error).split())}") from error


def _loaders(
    recipe: ClassifyRecipe, training: ImageSource, validation: ImageSource, trainer: L.Trainer
) -> tuple[Loader, Loader]:
    """Batches for this process, of those that train together; too few images for a batch in each make a smaller one."""
    preprocessing, options = recipe.input, recipe.data
    batch_size = recipe.trainer.loader_batch(trainer.world_size)

    def loader(source: ImageSource, transform: Callable[..., Tensor], shuffle: bool) -> Loader:
        return make_loader(
            Samples(source, transform, preprocessing.channels, options.strict),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=recipe.seed,
            workers=options.workers,
            drop_last=shuffle and len(source) >= batch_size * trainer.world_size,
            rank=trainer.global_rank,
            processes=trainer.world_size,
            order=options.order,
            buffer=options.buffer,
        )

    return (
        loader(training, train_transform(recipe.augment, preprocessing), shuffle=True),
        loader(validation, eval_transform(preprocessing), shuffle=False),
    )


def _fit(
    trainer: L.Trainer,
    task: Task,
    loaders: tuple[Loader, Loader],
    resumable: Resumable,
    folder: RunFolder,
    resume: bool,
) -> None:
    """Train; if Ctrl-C ends the first epoch early, validate what there is, so that the folder is complete."""
    try:
        trainer.fit(task, *loaders, ckpt_path=folder.last if resume else None, weights_only=True)
    except (Interrupted, RuntimeError) as error:
        if not resumable.caused(error):
            raise
        if not folder.best.exists():
            trainer.validate(task, loaders[1], verbose=False)
        raise KeyboardInterrupt from None


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's tips and notes, but with its warnings."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for note in (
                "does not have many workers",
                "isinstance.treespec, LeafSpec",
                "`training_step` returned `None`",
                "Found .* in eval mode",  # frozen stages
                "It is recommended to use `self.log",  # metrics are of all processes already
            ):
                warnings.filterwarnings("ignore", message=f".*{note}")
            yield
    finally:
        logger.setLevel(level)

"""A training run from a recipe to its folder."""

from __future__ import annotations

import logging
import math
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
from torch.utils.data import DataLoader

from swinv2.data.loading import Batch, Samples, make_loader
from swinv2.data.sources import ImageSource, open_split
from swinv2.data.transforms import eval_transform, mixing, train_transform
from swinv2.model import SwinTransformer, create_model
from swinv2.tasks.classify import ClassificationTask
from swinv2.train.callbacks import BestWeights, Ema, EpochRows, Progress, Say, SkippedFiles
from swinv2.train.folder import RunFolder
from swinv2.train.optim import optimise
from swinv2.train.options import ClassifyRecipe
from swinv2.train.recipe import dump_recipe
from swinv2.train.resume import Resumable


def train(recipe: ClassifyRecipe, out: Path, *, resume: bool = False, say: Say = print) -> RunFolder:
    """Train as the recipe says and leave everything in the folder `out`.

    Args:
        recipe: What to train.
        out: The run folder; it must not exist, or, with `resume`, be one that `train` left.
        resume: Go on from its last checkpoint.
        say: Receives one line an epoch.

    Raises:
        ValueError: The recipe, the data or the folder cannot be used; the message says why.
        KeyboardInterrupt: Ctrl-C; the folder is complete, and the message says how to go on.
    """
    folder = RunFolder(out)
    _check(folder, resume)
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    training, validation = open_split(recipe.data, "train"), open_split(recipe.data, "val")
    model = build_model(recipe, len(training.classes))
    resumable = Resumable(folder.last)
    skipped = tuple(dict.fromkeys(training.skipped + validation.skipped))
    try:
        with _quiet_lightning(), resumable.heeding_interrupts():
            trainer = _trainer(recipe, folder, [*_callbacks(recipe, folder, skipped, say), resumable], len(training))
            loaders = _loaders(recipe, training, validation, recipe.trainer.loader_batch(trainer.world_size))
            task = _task(recipe, model, training.classes, max(1, len(loaders[0]) // trainer.world_size))
            folder.create(dump_recipe(recipe))
            _fit(trainer, task, loaders, resumable, folder, resume)
    except KeyboardInterrupt:
        advice = f"go on with: swinv2 train --resume {out}" if folder.last.exists() else "nothing was trained"
        raise KeyboardInterrupt(f"stopped by Ctrl-C; {advice}") from None
    return folder


@rank_zero_only
def _check(folder: RunFolder, resume: bool) -> None:
    if resume and not folder.last.exists():
        raise ValueError(f"{folder.path} has no {folder.last.name} to resume from: start again with another --out.")
    if not resume and folder.path.exists():
        raise ValueError(
            f"run folder {folder.path} exists: choose another --out, or go on with --resume {folder.path}."
        )


def build_model(recipe: ClassifyRecipe, classes: int) -> SwinTransformer:
    """The recipe's model with fresh weights."""
    options = recipe.model
    model = create_model(
        options.name,
        window_size=options.window_size,
        image_size=options.size,
        num_classes=classes,
        in_channels=len(recipe.preprocessing.mean),
        **options.overrides,
    )
    model.set_checkpointing(recipe.trainer.checkpointing)
    if recipe.trainer.compile:
        model.compile()
    return model


def _task(recipe: ClassifyRecipe, model: SwinTransformer, classes: tuple[str, ...], batches: int) -> ClassificationTask:
    steps = recipe.trainer.epochs * math.ceil(batches / recipe.trainer.accumulate)
    return ClassificationTask(
        model,
        classes,
        optimise=partial(optimise, recipe=recipe, total_steps=steps),
        mixing=mixing(recipe.augment, len(classes)),
        label_smoothing=recipe.augment.label_smoothing,
    )


def _callbacks(recipe: ClassifyRecipe, folder: RunFolder, skipped: tuple[str, ...], say: Say) -> list[Callback]:
    decay = recipe.trainer.ema_decay
    return [
        BestWeights(folder, recipe.preprocessing.at(recipe.model.size)),
        *([Ema(decay=decay)] if decay is not None else []),
        EpochRows(folder, say),
        SkippedFiles(folder, skipped),
        LearningRateMonitor("step"),
        *([Progress()] if sys.stderr.isatty() else []),
    ]


def _trainer(recipe: ClassifyRecipe, folder: RunFolder, callbacks: list[Callback], images: int) -> L.Trainer:
    options = recipe.trainer
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            precision=options.precision,
            max_epochs=options.epochs,
            max_time=timedelta(minutes=options.max_minutes) if options.max_minutes else None,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=recipe.optimizer.clip_norm,
            callbacks=callbacks,
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
    recipe: ClassifyRecipe, training: ImageSource, validation: ImageSource, batch_size: int
) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    preprocessing = recipe.preprocessing.at(recipe.model.size)

    def loader(source: ImageSource, transform: Callable[..., Tensor], training: bool) -> DataLoader[Batch]:
        samples = Samples(source, transform, preprocessing.channels, recipe.data.strict)
        return make_loader(
            samples,
            batch_size=batch_size,
            shuffle=training,
            seed=recipe.seed,
            workers=recipe.data.workers,
            drop_last=training and len(samples) >= batch_size,
        )

    return (
        loader(training, train_transform(recipe.augment, preprocessing), training=True),
        loader(validation, eval_transform(preprocessing), training=False),
    )


def _fit(
    trainer: L.Trainer,
    task: ClassificationTask,
    loaders: tuple[DataLoader[Batch], DataLoader[Batch]],
    resumable: Resumable,
    folder: RunFolder,
    resume: bool,
) -> None:
    """Train; if Ctrl-C ends the first epoch early, validate what there is, so that the folder is complete."""
    try:
        trainer.fit(task, *loaders, ckpt_path=folder.last if resume else None, weights_only=True)
    except Exception:  # Interrupted, or what follows from a Ctrl-C that the workers heard as well
        if not resumable.requested:
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
            ):
                warnings.filterwarnings("ignore", message=f".*{note}")
            yield
    finally:
        logger.setLevel(level)

import pytest

from swinv2.train.options import (
    ClassifyRecipe,
    ModelOptions,
    OptimizerOptions,
    PreprocessingOptions,
    ScheduleOptions,
    TrainerOptions,
)


def test_defaults_are_the_released_imagenet_recipe() -> None:
    recipe = ClassifyRecipe()
    assert (recipe.optimizer.base_lr, recipe.optimizer.weight_decay, recipe.optimizer.clip_norm) == (5e-4, 0.05, 5.0)
    assert (recipe.optimizer.betas, recipe.optimizer.eps) == ((0.9, 0.999), 1e-8)
    assert (recipe.schedule.kind, recipe.schedule.warmup_epochs) == ("cosine", 20)
    assert (recipe.schedule.warmup_lr, recipe.schedule.min_lr) == (5e-7, 5e-6)
    assert (recipe.trainer.epochs, recipe.trainer.batch_size) == (300, 1024)


def test_image_size_is_height_and_width() -> None:
    assert ModelOptions(image_size=32).size == (32, 32)
    assert ModelOptions(image_size=(24, 32)).size == (24, 32)


def test_preprocessing_takes_the_models_size() -> None:
    spec = PreprocessingOptions(mean=(0.5,), std=(0.2,), crop_fraction=0.9).at((24, 32))
    assert (spec.size, spec.mean, spec.crop_fraction, spec.channels) == ((24, 32), (0.5,), 0.9, 1)


def test_a_step_is_shared_by_devices_and_accumulated_batches() -> None:
    options = TrainerOptions(batch_size=96, accumulate=3)
    assert options.loader_batch(processes=4) == 8
    with pytest.raises(ValueError, match="multiple of 15"):
        options.loader_batch(processes=5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrainerOptions(epochs=0), "trainer.epochs 0"),
        (lambda: TrainerOptions(batch_size=-1), "trainer.batch_size -1"),
        (lambda: TrainerOptions(ema_decay=1.0), "trainer.ema_decay 1.0"),
        (lambda: TrainerOptions(max_minutes=0.0), "trainer.max_minutes 0.0"),
        (lambda: OptimizerOptions(base_lr=0.0), "optimizer.base_lr 0.0"),
        (lambda: OptimizerOptions(clip_norm=0.0), "optimizer.clip_norm 0.0 is not positive: use null"),
        (lambda: ModelOptions(overrides={"name": "swin_tiny"}), "overrides.name follows from model.name"),
        (lambda: ModelOptions(overrides={"image_size": 8}), "overrides.image_size follows from model.image_size"),
        (lambda: ModelOptions(overrides={"window_size": 8}), "overrides.window_size follows from model.window_size"),
        (lambda: ScheduleOptions(warmup_epochs=-1), "schedule.warmup_epochs -1"),
        (
            lambda: ClassifyRecipe(trainer=TrainerOptions(epochs=20)),
            "warmup_epochs 20 takes all.*--schedule.warmup_epochs 2",
        ),
        (lambda: ModelOptions(overrides={"num_classes": 3}), "num_classes follows from the data"),
        (lambda: ModelOptions(overrides={"in_channels": 1}), "in_channels follows from preprocessing.mean"),
    ],
)
def test_impossible_options_are_refused_with_their_name_and_value(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()

import pytest

from swinv2.preprocessing import Preprocessing
from swinv2.train.options import (
    ModelOptions,
    OptimizerOptions,
    PreprocessingOptions,
    Recipe,
    ScheduleOptions,
    TrainerOptions,
)


def test_defaults_are_the_released_imagenet_recipe() -> None:
    recipe = Recipe()
    assert (recipe.optimizer.base_lr, recipe.optimizer.weight_decay, recipe.optimizer.clip_norm) == (5e-4, 0.05, 5.0)
    assert (recipe.optimizer.betas, recipe.optimizer.eps) == ((0.9, 0.999), 1e-8)
    assert (recipe.schedule.kind, recipe.schedule.warmup_epochs) == ("cosine", 20)
    assert (recipe.schedule.warmup_lr, recipe.schedule.min_lr) == (5e-7, 5e-6)
    assert (recipe.trainer.epochs, recipe.trainer.batch_size) == (300, 1024)


def test_image_size_is_height_and_width() -> None:
    assert ModelOptions(image_size=32).size == (32, 32)
    assert ModelOptions(image_size=(24, 32)).size == (24, 32)


KNOWN = Preprocessing(size=(24, 32), mean=(0.1,) * 3, std=(0.2,) * 3, crop_fraction=0.9, interpolation="nearest")


def test_what_the_recipe_leaves_out_is_taken_from_the_weights() -> None:
    recipe = Recipe(model=ModelOptions(weights="some.pth"))
    assert recipe.completed(KNOWN).input == KNOWN
    assert recipe.completed(KNOWN).completed(None) == recipe.completed(KNOWN)
    own = PreprocessingOptions(mean=(0.5,), std=(0.3,), interpolation="bilinear")
    recipe = Recipe(model=ModelOptions(weights="some.pth", image_size=48), preprocessing=own)
    expected = Preprocessing(size=(48, 48), mean=(0.5,), std=(0.3,), crop_fraction=0.9, interpolation="bilinear")
    assert recipe.completed(KNOWN).input == expected


def test_without_weights_the_model_and_imagenet_complete_the_recipe() -> None:
    whole = Recipe(model=ModelOptions(name="swin_tiny")).completed()
    assert whole.input == Preprocessing(size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert Recipe().completed().model.name == "swinv2_nano"


def test_weights_that_do_not_know_their_size_must_be_told_one() -> None:
    with pytest.raises(ValueError, match=r"some\.pth does not say the size.*--model\.image_size"):
        Recipe(model=ModelOptions(weights="some.pth")).completed()
    recipe = Recipe(model=ModelOptions(weights="some.pth", image_size=48)).completed()
    assert recipe.input.mean == (0.485, 0.456, 0.406)


def test_a_step_is_shared_by_devices_and_accumulated_batches() -> None:
    options = TrainerOptions(batch_size=96, accumulate=3)
    assert options.loader_batch(processes=4) == 8
    with pytest.raises(ValueError, match="multiple of 15"):
        options.loader_batch(processes=5)


def test_a_length_is_in_epochs_or_in_steps() -> None:
    epochs, steps = TrainerOptions(epochs=6, validate_every=2), TrainerOptions(epochs=None, steps=40, validate_every=8)
    assert (epochs.unit, epochs.total, epochs.rounds, epochs.after(2)) == ("epoch", 6, 3, "epoch 4")
    assert (steps.unit, steps.total, steps.rounds, steps.after(2)) == ("step", 40, 5, "step 16")
    assert (TrainerOptions().every, TrainerOptions().rounds) == (1, 300)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrainerOptions(epochs=0), "trainer.epochs 0"),
        (lambda: TrainerOptions(batch_size=-1), "trainer.batch_size -1"),
        (lambda: TrainerOptions(ema_decay=1.0), "trainer.ema_decay 1.0"),
        (lambda: TrainerOptions(max_minutes=0.0), "trainer.max_minutes 0.0"),
        (lambda: OptimizerOptions(base_lr=0.0), "optimizer.base_lr 0.0"),
        (lambda: OptimizerOptions(clip_norm=0.0), "optimizer.clip_norm 0.0 is not positive: use null"),
        (lambda: OptimizerOptions(layer_decay=1.5), "optimizer.layer_decay 1.5"),
        (lambda: OptimizerOptions(backbone_lr_factor=0.0), "optimizer.backbone_lr_factor 0.0 is not positive"),
        (lambda: ScheduleOptions(power=0.0), "schedule.power 0.0"),
        (lambda: TrainerOptions(epochs=None), "epochs and trainer.steps are both null"),
        (lambda: TrainerOptions(steps=10, validate_every=5), "steps 10 stands for trainer.epochs: set .* to null"),
        (lambda: TrainerOptions(epochs=None, steps=10), "steps 10 needs trainer.validate_every"),
        (lambda: TrainerOptions(epochs=None, steps=10, validate_every=4), "no multiple .* 4: use 8"),
        (lambda: TrainerOptions(epochs=3, validate_every=2), "epochs 3 is no multiple .* 2: use 4"),
        (lambda: TrainerOptions(epochs=None, steps=0, validate_every=1), "trainer.steps 0 is too small"),
        (
            lambda: Recipe(trainer=TrainerOptions(epochs=None, steps=10, validate_every=5)),
            "trainer.steps gives the length in steps: give schedule.warmup_steps",
        ),
        (lambda: ScheduleOptions(warmup_steps=-1), "schedule.warmup_steps -1"),
        (lambda: ScheduleOptions(kind="multistep"), "multistep needs some"),
        (lambda: ScheduleOptions(milestones=(3,)), "other kinds take none"),
        (lambda: ScheduleOptions(kind="multistep", milestones=(3, 2)), "do not rise"),
        (lambda: ModelOptions(overrides={"name": "swin_tiny"}), "overrides.name follows from model.name"),
        (lambda: ModelOptions(overrides={"image_size": 8}), "overrides.image_size follows from model.image_size"),
        (lambda: ModelOptions(overrides={"window_size": 8}), "overrides.window_size follows from model.window_size"),
        (lambda: ModelOptions(overrides={"depth": [1, 1]}), "overrides.depth is no field.*nearest is 'depths'"),
        (lambda: ModelOptions(frozen_stages=-1), "model.frozen_stages -1"),
        (lambda: PreprocessingOptions(mean=(0.5, 0.5)), "mean has 2 numbers"),
        (lambda: ScheduleOptions(warmup_epochs=-1), "schedule.warmup_epochs -1"),
        (
            lambda: Recipe(trainer=TrainerOptions(epochs=20)),
            "warmup_epochs 20 takes all.*--schedule.warmup_epochs 2",
        ),
        (lambda: ModelOptions(overrides={"num_classes": 3}), "num_classes follows from the data"),
        (lambda: ModelOptions(overrides={"in_channels": 1}), "in_channels follows from preprocessing.mean"),
    ],
)
def test_impossible_options_are_refused_with_their_name_and_value(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()

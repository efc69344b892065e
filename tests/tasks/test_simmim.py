"""The task on its own: masks of a step, what validation counts, and training on clips by Lightning's Trainer."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from swinv2.config import SwinConfig
from swinv2.data.labelled import Batch
from swinv2.data.masking import Masking
from swinv2.model import SimMIM
from swinv2.model.simmim import masked_loss
from swinv2.tasks.simmim import SimMIMTask
from swinv2.train.optim import parameter_groups

IMAGE = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 2), window_size=4)
CLIP = SwinConfig(
    embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=(2, 2, 2), merge_size=(1, 2, 2), window_size=(2, 4, 4)
)


def task(config: SwinConfig = IMAGE, unit: int | tuple[int, ...] = 4, **options: object) -> SimMIMTask:
    torch.manual_seed(0)

    def optimise(model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameter_groups(model, 0.05), lr=3e-3)

    made = SimMIMTask(SimMIM(config), Masking(unit=unit), optimise=optimise, target_window=5, **options)
    made.log = lambda *_, **__: None
    return made


def batch(*size: int, first: int = 0, count: int = 4) -> Batch:
    images = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(first))
    rows = torch.arange(first, first + count)
    return Batch(images=images, labels=torch.zeros(count, dtype=torch.long), indices=rows, skipped=())


EMPTY = Batch(images=torch.empty(0), labels=torch.empty(0).long(), indices=torch.empty(0).long(), skipped=("x",))


def test_a_step_is_the_loss_of_its_masks() -> None:
    made, given = task().eval(), batch(16, 16)
    mask = made.masks(given.images, [0, 1, 2, 3], epoch=0)
    expected = masked_loss(made.model(given.images, mask), given.images, mask, 5)
    assert made.training_step(given, 0).item() == expected.item()
    assert made.train_loss.compute().item() == expected.item()


def test_masks_change_with_the_epoch_in_training_alone() -> None:
    made, images = task(), torch.empty(4, 3, 16, 16)
    rows = [5, 6, 7, 8]
    assert torch.equal(made.masks(images, rows), made.masks(images, rows))
    assert not torch.equal(made.masks(images, rows, 0), made.masks(images, rows, 1))
    assert not torch.equal(task(seed=1).masks(images, rows), made.masks(images, rows))


def test_validation_counts_images_and_not_batches() -> None:
    made = task().eval()
    batches = [batch(16, 16), batch(16, 16, first=4, count=1), EMPTY]
    singly = [
        batch(16, 16)._replace(images=b.images[i : i + 1], indices=b.indices[i : i + 1])
        for b in batches
        for i in range(len(b.images))
    ]
    figures = []
    for given in (batches, singly):
        made.metrics.reset()
        with torch.no_grad():
            for each in given:
                made.validation_step(each, 0)
        figures.append(made.metrics.scalars()["loss"])
        assert made.metrics.images() == 5
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


def test_a_batch_without_images_is_passed_over() -> None:
    assert task().training_step(EMPTY, 0) is None


@pytest.mark.slow
def test_clips_train_under_lightning() -> None:
    """Frame by frame normalised, blocks of one token in time; the loss falls."""
    made = task(CLIP, unit=(2, 4, 4))
    del made.log
    made.target_window = (1, 5, 5)
    clips = [batch(4, 8, 8), batch(4, 8, 8, first=4)]
    for each in clips:
        each.images.copy_(each.images[..., :1, :1].expand_as(each.images).contiguous() + 0.1 * each.images)
    trainer = L.Trainer(
        max_epochs=30, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loader = DataLoader(clips, batch_size=None)
    before = trainer.validate(made, loader, verbose=False)[0]["val_loss"]
    trainer.fit(made, loader, loader)
    assert made.metrics.scalars()["loss"] < 0.97 * before


def test_the_mask_token_has_no_weight_decay() -> None:
    model = SimMIM(IMAGE)
    groups = {group["weight_decay"]: group["params"] for group in parameter_groups(model, 0.05)}
    assert any(p is model.mask_token for p in groups[0.0])
    assert any(p is model.decoder.weight for p in groups[0.05])


def test_a_window_that_is_none_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="target window 4 is not an odd number"):
        SimMIMTask(SimMIM(IMAGE), Masking(), optimise=lambda model: None, target_window=4)

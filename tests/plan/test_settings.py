import re
from typing import Any

import pytest

from swinv2.plan.settings import Settings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"precision": "b16"}, "precision is 'b16' (the nearest is 'bf16'): use one of fp32, bf16, fp16."),
        ({"strategy": "zero"}, "strategy is 'zero' (the nearest is 'zero1')"),
        ({"checkpointing": "stage"}, "checkpointing is 'stage': use one of none, block."),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"batch": 0}, "batch is 0, but must be a whole number of at least 1."),
        ({"devices": -1}, "devices is -1"),
        ({"devices": 2}, "2 devices need a strategy: use ddp, zero1 or fsdp."),
        ({"strategy": "fsdp"}, "strategy fsdp shares a model between devices: give more than one, or use none."),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Settings(image_size=(64, 64), **values)


def test_what_saves_memory_in_words() -> None:
    plain = Settings(image_size=(64, 64))
    assert plain.describe() == "nothing"
    saving = Settings(
        image_size=(64, 64),
        devices=8,
        strategy="zero1",
        checkpointing="block",
        attention="sequential",
        attention_stages=(0, 1),
    )
    assert saving.describe() == "zero1, checkpointing, sequential attention in stages 0, 1"

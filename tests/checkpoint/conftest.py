"""A small model in many formats."""

import pytest

import swinv2

SMALL = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "num_classes": 3}


@pytest.fixture
def small(randomise):
    """Make a small model with random weights: V2 unless ``name`` says otherwise."""

    def make(name="swinv2_nano", **overrides):
        fields = {**SMALL, "window_size": 4, "image_size": 64, **overrides}
        return randomise(swinv2.create_model(name, **fields)).eval()

    return make

from __future__ import annotations

import torch

import swinv2
from swinv2.study.accuracy import leave_out_bias


def test_a_bias_that_is_left_out_is_one_of_zeros() -> None:
    torch.manual_seed(0)
    options = {"image_size": 32, "window_size": 4, "num_classes": 10, "position_bias": "table", "depths": (1, 1, 1, 1)}
    model = swinv2.create_model("swinv2_nano", **options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "position_bias" in name:  # what is zero or small at first
                parameter.normal_()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        whole = model(images)
        zeros = swinv2.create_model("swinv2_nano", **options).eval()
        zeros.load_state_dict(
            {name: 0 * value if "position_bias" in name else value for name, value in model.state_dict().items()}
        )
        expected = zeros(images)
        leave_out_bias(model)
        found = model(images)
    assert not torch.allclose(whole, expected, rtol=0.01)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

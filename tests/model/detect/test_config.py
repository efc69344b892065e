import dataclasses
import json
import subprocess
import sys

import pytest

from swinv2.model.detect import DETECTORS, BoxStage, DetectorConfig, detector_config


@pytest.mark.parametrize("name", DETECTORS)
def test_plain_data_and_back(name):
    config = detector_config(name, num_classes=7)
    plain = json.loads(json.dumps(config.to_dict()))
    assert DetectorConfig.from_dict(plain) == config
    assert config.num_classes == 7
    assert dataclasses.replace(config, num_classes=80) == DETECTORS[name]


def test_published_numbers():
    cascade, htc = DETECTORS["cascade_rcnn"], DETECTORS["htc_plus_plus"]
    assert [stage.iou for stage in cascade.stages] == [0.5, 0.6, 0.7]
    assert [stage.loss_weight for stage in cascade.stages] == [1, 0.5, 0.25]
    for stage, deviations in zip(cascade.stages, [(0.1, 0.2), (0.05, 0.1), (0.033, 0.067)], strict=True):
        x, y, width, height = (1 / weight for weight in stage.weights)
        assert x == y == pytest.approx(deviations[0], rel=0.02)
        assert width == height == pytest.approx(deviations[1], rel=0.02)
    assert cascade.class_agnostic_boxes
    assert not cascade.masks
    assert (htc.score_threshold, htc.suppression_iou, htc.detections_per_image) == (0.001, 0.5, 100)
    assert htc.masks
    assert htc.interleaved
    assert htc.mask_flow
    assert htc.global_attention
    assert htc.suppression == "soft_nms_linear"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_clases": 3}, r"DetectorConfig has no field 'num_clases' \(the nearest is 'num_classes'\)\."),
        ({"stages": [{"iuo": 0.5}]}, r"BoxStage has no field 'iuo' \(the nearest is 'iou'\)\."),
        ({"stages": []}, r"stages is \[\], but must be one BoxStage or more"),
        ({"stages": [0.5]}, "must be one BoxStage or more"),
        ({"stages": [{"weights": (1, 2)}]}, r"weights is \(1, 2\), but must be a tuple of 4 numbers"),
        ({"stages": [{"iou": 1.5}]}, "iou is 1.5, but must be a number from 0 to 1"),
        ({"num_classes": 0}, "num_classes is 0, but must be a whole number of at least 1"),
        ({"num_classes": True}, "num_classes is True, but must be a whole number"),
        ({"score_threshold": float("nan")}, "score_threshold is nan, but must be a number from 0 to 1"),
        ({"anchor_ratios": ()}, r"anchor_ratios is \(\), but must be a tuple of one or more numbers"),
        ({"proposals_before_nms": 2000}, "proposals_before_nms is 2000, but must be a tuple of 2 numbers"),
        ({"proposals_after_nms": (100, 0.5)}, "proposals_after_nms is 0.5, but must be a whole number"),
        ({"proposal_iou": (0.7, 0.3)}, r"proposal_iou is \(0.7, 0.3\), but must be two rising numbers"),
        ({"suppression": "soft_nms"}, r"suppression is 'soft_nms', but must be one of 'nms', .*nearest is 'soft_nms_"),
        ({"interleaved": True}, "interleaved is True, but there are no mask heads .*: set masks=True"),
        ({"mask_flow": True, "masks": True}, "mask_flow .*: set masks=True and give two stages or more"),
        ({"mask_flow": True, "stages": [{}, {}]}, "mask_flow .*: set masks=True and give two stages or more"),
        ({"semantic_classes": 300}, "semantic_classes is 300, but label 255 stands for ignored pixels"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        DetectorConfig.from_dict(fields)


def test_unknown_detectors_and_fields_name_the_nearest():
    with pytest.raises(
        ValueError, match=r"no detector 'mask-rcnn' \(the nearest is 'mask_rcnn'\): choose one of faster"
    ):
        detector_config("mask-rcnn")
    with pytest.raises(ValueError, match=r"no field 'mask' \(the nearest is 'masks'\)"):
        detector_config("htc", mask=True)


def test_stages_may_be_mappings():
    config = DetectorConfig(stages=[{"iou": 0.6}, BoxStage()])
    assert config.stages == (BoxStage(iou=0.6), BoxStage())


def test_configurations_do_not_need_torchvision():
    code = "import sys, swinv2.model.detect as d; d.DETECTORS; print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

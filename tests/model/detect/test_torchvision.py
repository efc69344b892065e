"""Mask R-CNN equals torchvision's with the same weights, proposals and samples."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import MultiScaleRoIAlign

from swinv2.benchmark.memory import usage
from swinv2.model import NamedMaps
from swinv2.model.detect import DetectorConfig, create_detector
from swinv2.model.detect.heads import RoIPool
from swinv2.model.detect.losses import mask_targets
from swinv2.model.detect.proposals import Anchors, ProposalHead

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = {
    "backbone.0.": "backbone.",
    "backbone.2.": "neck.",
    "rpn.": "rpn.",
    "roi_heads.box_head.": "heads.box.0.",
    "roi_heads.box_predictor.": "heads.box.0.",
    "roi_heads.mask_head.": "heads.mask.0.convs.",
    "roi_heads.mask_predictor.": "heads.mask.0.predictor.",
}
CLASSES = 4
FEWER = {
    "proposals_before_nms": (60, 50),
    "proposals_after_nms": (40, 30),
    "box_samples": 24,
    "detections_per_image": 12,
}
THEIR_FEWER = {
    "rpn_pre_nms_top_n_train": 60,
    "rpn_pre_nms_top_n_test": 50,
    "rpn_post_nms_top_n_train": 40,
    "rpn_post_nms_top_n_test": 30,
    "box_batch_size_per_image": 24,
    "box_detections_per_img": 12,
}


def our_name(theirs):
    prefix = next(prefix for prefix in NAMES if theirs.startswith(prefix))
    return NAMES[prefix] + theirs.removeprefix(prefix)


@pytest.fixture(scope="module")
def twins(spread, convolutions):
    """Our detector and torchvision's, which gets the weights by name."""
    ours = spread(create_detector(convolutions(), "mask_rcnn", num_classes=CLASSES, **FEWER))
    backbone = nn.Sequential(convolutions(), NamedMaps(), copy.deepcopy(ours.neck))
    backbone.out_channels = 256
    plain = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "min_size": 64, "max_size": 128, "_skip_resize": True}
    theirs = MaskRCNN(backbone, CLASSES + 1, **plain, **THEIR_FEWER)
    weights = ours.state_dict()
    names = {name: our_name(name) for name in theirs.state_dict()}
    assert sorted(names.values()) == sorted(weights)
    theirs.load_state_dict({name: weights[own] for name, own in names.items()})
    return ours, theirs, names


def test_losses_and_gradients(twins, pictures):
    ours, theirs, names = twins
    images, targets = pictures([(60, 120), (64, 100), (50, 128)], [3, 0, 5], classes=CLASSES)
    losses = []
    for model in (ours, theirs):
        torch.manual_seed(5)
        losses.append(model.train()(images, targets))
        model.zero_grad()
        sum(losses[-1].values()).backward()
    want = {name: value.item() for name, value in losses[1].items()}
    assert {name.removesuffix("_1"): value.item() for name, value in losses[0].items()} == pytest.approx(want, rel=1e-5)
    assert all(value > 0.01 for value in want.values())
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        own = gradients[names[name]]
        assert (own - parameter.grad).norm() <= 1e-4 * parameter.grad.norm(), name


def test_detections(twins, pictures):
    ours, theirs, _ = twins
    images, _ = pictures([(64, 128), (64, 128)], [1, 1])
    with torch.inference_mode():
        found, want = ours.eval()(images), theirs.eval()(images)
    for a, b in zip(found, want, strict=True):
        assert len(b["scores"]) > 5
        assert a.keys() == b.keys()
        assert torch.equal(a["labels"], b["labels"])
        for name in ("boxes", "scores", "masks"):
            torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-5)


def test_defaults_are_torchvisions(convolutions):
    backbone = nn.Identity()
    backbone.out_channels = 256
    with torch.device("meta"):
        ours, theirs = (
            create_detector(convolutions(), "mask_rcnn", num_classes=CLASSES),
            MaskRCNN(backbone, CLASSES + 1),
        )
    heads, config = theirs.roi_heads, ours.settings
    assert ours.rpn.anchor_generator.sizes == theirs.rpn.anchor_generator.sizes
    assert ours.rpn.anchor_generator.aspect_ratios == theirs.rpn.anchor_generator.aspect_ratios
    for name in ("_pre_nms_top_n", "_post_nms_top_n", "nms_thresh", "score_thresh", "min_size"):
        assert getattr(ours.rpn, name) == getattr(theirs.rpn, name)
    for name in ("proposal_matcher", "fg_bg_sampler", "box_coder"):
        assert vars(getattr(ours.rpn, name)) == vars(getattr(theirs.rpn, name))
    assert (ours.rpn.background_iou, ours.rpn.positive_iou) == (0.3, 0.7)
    assert vars(ours.heads.sampler) == vars(heads.fg_bg_sampler)
    assert vars(ours.heads.coders[0]) == vars(heads.box_coder)
    assert config.stages[0].iou == heads.proposal_matcher.high_threshold == heads.proposal_matcher.low_threshold
    assert (config.score_threshold, config.suppression_iou, config.detections_per_image) == (
        *(heads.score_thresh, heads.nms_thresh, heads.detections_per_img),
    )


def test_anchors_are_torchvisions_where_strides_divide_and_keep_to_strides_elsewhere():
    config, strides = DetectorConfig(), (4, 8, 16, 32, 64)
    ours = Anchors(strides, config)

    def both(height, width, dtype=torch.float32):
        maps = [torch.zeros(1, 1, -(-height // s), -(-width // s), dtype=dtype) for s in strides]
        batch = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
        return ours(batch, maps)[0], super(Anchors, ours).forward(batch, maps)[0]

    assert torch.equal(*both(128, 192))
    own, theirs = both(96, 160)
    assert own.shape == theirs.shape
    centres = (own[-6 * 3 :: 3, :2] + own[-6 * 3 :: 3, 2:]) / 2
    assert centres.unique(dim=0).tolist() == [[x, y] for x in (0.0, 64.0, 128.0) for y in (0.0, 64.0)]
    own, theirs = both(128, 192, torch.bfloat16)
    assert torch.equal(own, both(128, 192)[0])
    assert not torch.equal(own, theirs.float())


def test_proposals_keep_fp32_under_autocast():
    head = ProposalHead(8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        scores, deltas = head([torch.randn(1, 8, 4, 4)])
    assert scores[0].dtype == deltas[0].dtype == torch.float32


@pytest.mark.parametrize("size", [7, 14])
def test_pooling(size):
    strides = {"0": 4, "1": 8, "2": 16, "3": 32}
    maps = {name: torch.randn(2, 5, 512 // s, 512 // s) for name, s in strides.items()}
    boxes = [
        torch.tensor([[3.0, 5.0, 40.0, 30.0], [0.0, 0.0, 512.0, 500.0]]),
        torch.tensor([[90.0, 80.0, 300.0, 290.0]]),
    ]
    want = MultiScaleRoIAlign(list(strides), size, 2)(maps, boxes, [(512, 512), (500, 480)])
    pool = RoIPool(strides, size)
    torch.testing.assert_close(pool(maps, boxes), want)
    # An image of 33 pixels is padded to 64: torchvision would take its first map for one of stride 2.
    small = {name: x[:1, :, : 64 // s, : 64 // s] for (name, x), s in zip(maps.items(), strides.values(), strict=True)}
    box = [torch.tensor([[4.0, 4.0, 24.0, 24.0]])]
    torch.testing.assert_close(
        RoIPool(strides, size)(small, box), MultiScaleRoIAlign(["0"], size, 2)({"0": small["0"]}, box, [(64, 64)])
    )


def test_mask_targets_in_parts(pictures):
    _, (target,) = pictures([(96, 80)], [9])
    boxes = (target["boxes"].repeat(5, 1) + torch.randn(45, 4)).clamp(min=0)
    objects = torch.arange(9).repeat(5)
    want = project_masks_on_boxes(target["masks"], boxes, objects, 28)
    assert 0.2 < want.mean() < 0.9
    for pixels in (1, 96 * 80 * 7, 10**9):
        assert torch.equal(mask_targets(target["masks"], boxes, objects, 28, pixels), want)
    peaks = [
        usage(lambda pixels=pixels: mask_targets(target["masks"], boxes, objects, 7, pixels), torch.device("cpu")).peak
        for pixels in (96 * 80 * 2, 10**9)
    ]
    assert peaks[0] < peaks[1] / 5

import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou

from swinv2.benchmark.memory import usage
from swinv2.model.detect import DetectorConfig
from swinv2.model.detect.matching import match, sample
from swinv2.model.detect.proposals import ProposalNetwork


def boxes(count, seed=0, extent=100.0):
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=generator) * extent
    return torch.cat([start, start + 5 + 20 * torch.rand(count, 2, generator=generator)], 1)


@pytest.mark.parametrize("pairs", [1, 50, 10**6])
@pytest.mark.parametrize(
    ("background", "positive", "keep_best"), [(0.3, 0.7, True), (0.3, 0.5, False), (0.5, 0.5, False)]
)
def test_as_torchvisions_matcher(pairs, background, positive, keep_best):
    objects, known = boxes(7), boxes(200, seed=1)
    known[:7] = objects + 1  # some overlap well
    want = Matcher(positive, background, allow_low_quality_matches=keep_best)(box_iou(objects, known))
    assert want.unique().numel() > 4
    assert torch.equal(match(objects, known, background, positive, keep_best=keep_best, pairs=pairs), want)


def test_an_object_that_nothing_overlaps_claims_no_boxes():
    far = torch.tensor([[500.0, 500.0, 510.0, 510.0]])
    assert (match(far, boxes(20), 0.3, 0.7, keep_best=True) == -1).all()


def test_memory_is_bounded_for_any_number_of_objects():
    objects, known = boxes(400), boxes(4000, seed=1)
    whole = usage(lambda: match(objects, known, 0.3, 0.7, keep_best=True, pairs=10**8), torch.device("cpu")).peak
    parts = usage(lambda: match(objects, known, 0.3, 0.7, keep_best=True, pairs=2**16), torch.device("cpu")).peak
    assert whole > 400 * 4000 * 20
    assert parts < 2**16 * 50


@pytest.mark.parametrize("count", [0, 1, 9])
def test_anchors_learn_what_torchvisions_learn(count):
    network = ProposalNetwork([4, 8], DetectorConfig(pyramid_channels=4))
    anchors, targets = [boxes(300, seed=2), boxes(300, seed=3)], [{"boxes": boxes(count, seed=s)} for s in (4, 5)]
    labels, matched = network.assign_targets_to_anchors(anchors, targets)
    want_labels, want = RegionProposalNetwork.assign_targets_to_anchors(network, anchors, targets)
    for a, b in zip([*labels, *matched], [*want_labels, *want], strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_samples_hold_the_share_of_positives_and_know_what_was_given():
    target = {"boxes": boxes(6), "labels": torch.tensor([1, 2, 3, 1, 2, 3])}
    empty = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.long)}
    near = target["boxes"].repeat(10, 1) + 0.1
    proposals = [torch.cat([near, boxes(50, seed=8, extent=1000.0) + 200]), boxes(50, seed=9)]
    drawn = sample(proposals, [target, empty], 0.5, BalancedPositiveNegativeSampler(40, 0.25))
    assert [len(each) for each in drawn.boxes] == [40, 40]
    assert [int(each.sum()) for each in drawn.positive] == [10, 0]
    first = drawn.positive[0]
    assert torch.equal(drawn.labels[0][first], target["labels"][drawn.objects[0][first]])
    assert (box_iou(drawn.boxes[0][first], target["boxes"]).argmax(1) == drawn.objects[0][first]).all()
    given = torch.cat([(each[:, None] == target["boxes"]).all(2).any(1) for each in drawn.boxes])
    assert torch.equal(torch.cat(drawn.given), given)


def test_an_objects_own_box_is_a_sample():
    target = {"boxes": boxes(3), "labels": torch.tensor([1, 1, 2])}
    drawn = sample([torch.empty(0, 4)], [target], 0.5, BalancedPositiveNegativeSampler(8, 0.5))
    assert torch.equal(drawn.boxes[0], target["boxes"])
    assert drawn.given[0].all()

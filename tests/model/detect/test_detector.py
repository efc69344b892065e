import math

import pytest
import torch
from torch import nn
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from swinv2.config import make_config
from swinv2.model import SwinBackbone
from swinv2.model.detect import DETECTORS, create_detector, detector_config
from swinv2.model.detect.batch import pad_images

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"num_classes": 3, "pyramid_channels": 16, "box_features": 32, "box_samples": 32}
NANO = make_config("swinv2_nano", window_size=4, image_size=64)
PRESETS = [*((name, {}) for name in DETECTORS), ("htc_plus_plus", {"semantic_classes": 5})]


def on(device, images, targets):
    moved = [{name: x.to(device) for name, x in target.items()} for target in targets]
    return [image.to(device) for image in images], moved


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (0, 0)], ids=str)
@pytest.mark.parametrize(("name", "overrides"), PRESETS, ids=[f"{n}-{o}" if o else n for n, o in PRESETS])
def test_every_parameter_learns_in_every_step(name, overrides, counts, device, pictures, randomise):
    """Zero gradients count, missing ones do not: so DDP needs no `find_unused_parameters`."""
    detector = create_detector(randomise(SwinBackbone(NANO)), name, **TINY, **overrides).to(device).train()
    losses = detector(*on(device, *pictures([(64, 64), (50, 60)], counts)))
    stages = range(1, len(detector.settings.stages) + 1)
    kinds = ["classifier", "box_reg"] + ["mask"] * detector.settings.masks
    semantic = ["loss_semantic"] * bool(overrides)
    assert sorted(losses) == sorted(
        ["loss_objectness", "loss_rpn_box_reg", *semantic, *(f"loss_{kind}_{n}" for kind in kinds for n in stages)]
    )
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    if counts == (0, 0):
        assert all(losses[key] == 0 for key in losses if "box_reg" in key or "mask" in key)
    else:
        assert all(loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    for key, parameter in detector.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize(("name", "overrides"), PRESETS, ids=[f"{n}-{o}" if o else n for n, o in PRESETS])
def test_detections(name, overrides, device, pictures, convolutions, spread):
    overrides = {**TINY, **overrides, "score_threshold": 0.1, "detections_per_image": 7}
    detector = spread(create_detector(convolutions(), name, **overrides), gain=1.5).to(device).eval()
    images = [image.to(device) for image in pictures([(64, 64), (33, 90)], (1, 1))[0]]
    with torch.inference_mode():
        found = detector(images)
    for each, image in zip(found, images, strict=True):
        count, (height, width) = len(each["boxes"]), image.shape[1:]
        assert 0 < count <= 7
        assert each["boxes"].shape == (count, 4)
        assert each["labels"].dtype == torch.int64
        assert 1 <= each["labels"].min() <= each["labels"].max() <= 3
        assert (each["scores"].diff() <= 0).all()
        assert each["scores"].min() > 0.1
        x1, y1, x2, y2 = each["boxes"].unbind(1)
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all()
        assert ("masks" in each) == detector.settings.masks
        if detector.settings.masks:
            assert each["masks"].shape == (count, 1, height, width)
            assert 0 <= each["masks"].min() < each["masks"].max() <= 1


@pytest.mark.parametrize("name", ["mask_rcnn", "htc_plus_plus"])
def test_images_of_a_batch_do_not_see_each_other(name, pictures, randomise):
    """In fp64, where no order of sums makes or breaks a tie of scores."""
    detector = create_detector(randomise(SwinBackbone(NANO)), name, **TINY, score_threshold=0.1).double().eval()
    images = [image.double() for image in pictures([(60, 80)] * 3, (0, 0, 0))[0]]
    with torch.no_grad():
        together, alone = detector(images), [detector([image])[0] for image in images]
    assert sum(len(each["scores"]) for each in alone) > 3
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-9, atol=1e-9)


def test_masks_that_fill_their_boxes(pictures, convolutions, spread):
    detector = spread(create_detector(convolutions(), "htc", **TINY), gain=1.5).eval()
    images = pictures([(64, 96)], [1])[0]
    with torch.inference_mode():
        (pasted,), (plain,) = detector(images), detector(images, paste=False)
    assert torch.equal(pasted["masks"], paste_masks_in_image(plain["masks"], plain["boxes"], (64, 96)))
    assert all(torch.equal(plain[name], pasted[name]) for name in ("boxes", "labels", "scores"))


@pytest.mark.parametrize("sizes", [[(64, 96)], [(33, 90), (64, 7)], [(1, 1)], [(32, 65), (1, 32), (20, 20)]], ids=str)
def test_batches_are_padded_as_torchvision_does(sizes):
    images = [torch.randn(3, *size) for size in sizes]
    batch = pad_images(images)
    reference = GeneralizedRCNNTransform(1, 1, [0.0] * 3, [1.0] * 3)
    assert torch.equal(batch.tensors, reference.batch_images(images))
    assert batch.image_sizes == sizes
    wide = pad_images(images, (64, 140))
    assert wide.tensors.shape[-2:] == (64, 160)
    assert wide.image_sizes == sizes
    height, width = batch.tensors.shape[-2:]
    assert torch.equal(wide.tensors[..., :height, :width], batch.tensors)
    assert wide.tensors.count_nonzero() == batch.tensors.count_nonzero()


@pytest.mark.parametrize("name", ["mask_rcnn", "htc_plus_plus"])
def test_an_image_of_one_pixel(name, pictures, convolutions):
    detector = create_detector(convolutions(), name, **TINY)
    images = [torch.randn(3, 1, 1), torch.randn(3, 40, 40)]
    _, (none, some) = pictures([(1, 1), (40, 40)], [0, 2])
    one = {"boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]]), "labels": torch.tensor([1]), "masks": torch.ones(1, 1, 1)}
    for first in (none, one):
        losses = detector.train()(images, [first, some])
        assert all(loss.isfinite() for loss in losses.values())
    with torch.inference_mode():
        found = detector.eval()(images[:1])
    assert found[0]["masks"].shape[2:] == (1, 1)


def test_more_than_a_thousand_objects(pictures, convolutions):
    detector = create_detector(convolutions(), "htc", **TINY).train()
    images, targets = pictures([(64, 64)], [1200])
    assert all(loss.isfinite() for loss in detector(images, targets).values())


def test_half_precision_reaches_no_coordinate(pictures, convolutions, spread):
    detector = spread(create_detector(convolutions(), "htc", **TINY, semantic_classes=5))
    images, targets = pictures([(64, 64), (50, 60)], [3, 2])
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.train()(images, targets)
        found = detector.eval()(images)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(each[name].dtype == torch.float32 for each in found for name in ("boxes", "scores", "masks"))
    detector = detector.bfloat16()
    losses = detector.train()([image.bfloat16() for image in images], targets)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


def test_the_swin_backbone_keeps_its_names_and_its_frozen_stages(pictures):
    backbone = SwinBackbone(NANO, frozen_stages=2)
    detector = create_detector(backbone, "mask_rcnn", **TINY).train()
    names = {name for name, _ in detector.named_parameters() if name.startswith("backbone.")}
    assert names == {f"backbone.{name}" for name, _ in backbone.named_parameters()}
    assert {name.split(".")[0] for name, _ in detector.named_parameters()} == {"backbone", "neck", "rpn", "heads"}
    sum(detector(*pictures([(64, 64)], [2])).values()).backward()
    grads = {name: p.grad is not None for name, p in detector.named_parameters()}
    assert not any(known for name, known in grads.items() if name.startswith(("backbone.patch", "backbone.stages.0")))
    assert all(known for name, known in grads.items() if name.startswith(("backbone.stages.2", "neck", "heads")))
    assert not backbone.stages[1].training


@pytest.mark.parametrize("outputs", [(0, 1), (1, 2, 3), (3,), (0, 1, 2, 3)], ids=str)
def test_any_run_of_stages_serves(outputs, pictures):
    detector = create_detector(SwinBackbone(NANO, outputs), "mask_rcnn", **TINY)
    images, targets = pictures([(64, 96)], [3])
    assert all(loss.isfinite() for loss in detector.train()(images, targets).values())
    with torch.inference_mode():
        assert len(detector.eval()(images)) == 1


def test_full_size():
    """SwinV2-L under HTC++ at 1536, window 32 as in the paper, and not a byte of it."""
    config = make_config("swinv2_large", window_size=32, image_size=1536)
    with torch.device("meta"):
        detector = create_detector(SwinBackbone(config), "htc_plus_plus", semantic_classes=183)
    assert all(parameter.is_meta for parameter in detector.parameters())
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in detector.named_children()}
    assert config.trained_window_size == ((32, 32),) * 4
    norms = sum(2 * dim for dim in config.dims)
    head = 1000 * 1536 + 1000 + 2 * 1536
    assert count["backbone"] == 196_739_932 - head + norms
    assert count["global_attention"] == 4 * 1536**2 + 4 * 1536 + 2 * 1536
    assert count["neck"] == 256 * sum(config.dims) + 4 * 256 + 4 * (9 * 256**2 + 256)


@pytest.mark.parametrize(
    ("channels", "strides", "sentence"),
    [
        (None, None, "Odd does not say what its maps are: a backbone has channels and strides"),
        ((8,), (4, 8), "Odd does not say what its maps are"),
        ((8, 16), ((1, 4, 4), (1, 8, 8)), r"strides are \(\(1, 4, 4\), .* but a detector needs images"),
        ((8, 16), ((4, 2), (8, 4)), "needs images, alike on both axes"),
        ((8, 16), (8, 4), r"strides are \[8, 4\], but a pyramid needs powers of two that double"),
        ((8, 16), (4, 16), r"strides are \[4, 16\], but a pyramid needs powers of two that double"),
        ((8, 16), (3, 6), r"strides are \[3, 6\], but a pyramid needs powers of two"),
        ((8,), (4,), "the semantic branch looks at the second map, but the backbone has 1"),
    ],
)
def test_backbones_that_carry_no_pyramid(channels, strides, sentence):
    class Odd(nn.Module):
        pass

    backbone = Odd()
    backbone.channels, backbone.strides = channels, strides
    with pytest.raises(ValueError, match=sentence):
        create_detector(backbone, "htc", semantic_classes=5)


BAD = {
    "boxes": [
        (torch.ones(2, 5), r"target 1 has boxes of shape \(2, 5\), but 2 objects on 40 x 50 pixels: \(2, 4\)"),
        (torch.tensor([[1.0, 2.0, 9.0, 2.0], [1, 1, 3, 3]]), r"has the box \[1.0, 2.0, 9.0, 2.0\], which has no area"),
        (torch.tensor([[1.0, 1, 3, 3], [50, 2, 60, 9]]), r"has the box \[50.0, 2.0, 60.0, 9.0\], .* of 40 x 50 pixels"),
        (torch.tensor([[1.0, 1, 3, 3], [1, 2, math.nan, 9]]), r"has the box \[1.0, 2.0, nan, 9.0\]"),
    ],
    "labels": [
        (torch.tensor([0, 1]), r"has labels \[0, 1\] .*, but they must be int64 from 1 to 3"),
        (torch.tensor([1, 4]), r"has labels \[1, 4\]"),
        (torch.tensor([1.0, 2.0]), "float32"),
        (torch.tensor([1]), r"has labels of shape \(1,\), but 2 objects"),
    ],
    "masks": [
        (torch.ones(2, 40, 40), r"has masks of shape \(2, 40, 40\), but 2 objects on 40 x 50 pixels: \(2, 40, 50\)")
    ],
    "semantic": [
        (torch.full((40, 50), 5), "has a semantic map .* not uint8 or int64 from 0 to 4, and 255 for ignored"),
        (torch.zeros(40, 50), "float32"),
    ],
}


@pytest.mark.parametrize(("name", "value", "sentence"), [(name, *each) for name, bad in BAD.items() for each in bad])
def test_bad_targets_are_refused_in_a_sentence(name, value, sentence, pictures, convolutions):
    detector = create_detector(convolutions(), "htc", **TINY, semantic_classes=5).train()
    images, targets = pictures([(40, 50), (40, 50)], [1, 2])
    with pytest.raises(ValueError, match=sentence):
        detector(images, [targets[0], {**targets[1], name: value}])
    with pytest.raises(ValueError, match=f"target 0 has no '{name}', which this detector learns from"):
        detector(images, [{key: x for key, x in targets[0].items() if key != name}, targets[1]])


def test_bad_images_are_refused_in_a_sentence(pictures, convolutions):
    detector = create_detector(convolutions(), "faster_rcnn", **TINY)
    images, targets = pictures([(40, 50), (40, 50)], [1, 2])
    for given, sentence in [
        ([], "at least one image"),
        ([images[0], images[1][:1]], r"image 1 is torch.float32 of shape \(1, 40, 50\)"),
        ([images[0].byte()], "image 0 is torch.uint8 .*: scale and normalise it first"),
        ([images[0][:, :0]], r"at least one pixel"),
        ([images[0][None]], r"must be floating point, \[C, H, W\]"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            detector.eval()(given)
    for given, sentence in [(None, "2 images and none targets"), (targets[:1], "2 images and 1 targets")]:
        with pytest.raises(ValueError, match=sentence):
            detector.train()(images, given)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_compiled_backbone_has_the_same_maps(pictures, randomise):
    """In evaluation, whatever the sizes: heads, whose shapes depend on numbers, stay as they are. Detections are not
    compared one by one: those of an untrained detector are so close that rounding orders them anew.
    """
    config = make_config("swinv2_nano", window_size=4, image_size=64, embed_dim=16, depths=(1, 1), num_heads=(1, 2))
    fields = {**TINY, "score_threshold": 0.0}
    detector = create_detector(randomise(SwinBackbone(config)), "mask_rcnn", **fields).eval()
    batches = [torch.randn(count, 3, *size) for count, *size in ((2, 64, 96), (1, 96, 96), (1, 64, 64))]
    sizes = ([(64, 96), (50, 60)], [(80, 70)], [(33, 40)])
    with torch.inference_mode():
        plain = [maps for batch in batches for maps in detector.backbone(batch)]
        detector.backbone.compile()
        compiled = [maps for batch in batches for maps in detector.backbone(batch)]
        found = [found for images in sizes for found in detector(pictures(images, [0] * len(images))[0])]
    for ours, theirs in zip(compiled, plain, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    assert all(len(one["boxes"]) > 20 for one in found)


def test_names_and_fields_of_the_table():
    with pytest.raises(ValueError, match="no detector 'htc3'"):
        create_detector(SwinBackbone(NANO), "htc3")
    config = detector_config("mask_rcnn", **TINY)
    assert create_detector(SwinBackbone(NANO), config, num_classes=2).settings.num_classes == 2

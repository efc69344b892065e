"""Cascade R-CNN and HTC as plain loops over boxes and pixels, in fp64: what the modules must equal.

Weights come by name from a state dict, and every box is a sample, so nothing is drawn. Only RoIAlign is torchvision's.
"""

import math

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

STRIDES = (4, 8, 16, 32, 64)


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def centre(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def encode(wanted, box, weights):
    x, y, w, h = centre(box)
    to_x, to_y, to_w, to_h = centre(wanted)
    deltas = (to_x - x) / w, (to_y - y) / h, math.log(to_w / w), math.log(to_h / h)
    return [weight * delta for weight, delta in zip(weights, deltas, strict=True)]


def decode(delta, box, weights, size):
    x, y, w, h = centre(box)
    dx, dy, dw, dh = (float(d) / k for d, k in zip(delta, weights, strict=True))
    x, y = x + dx * w, y + dy * h
    w, h = w * math.exp(min(dw, math.log(1000 / 16))), h * math.exp(min(dh, math.log(1000 / 16)))
    height, width = size
    clip = lambda value, most: min(max(value, 0.0), most)  # noqa: E731
    return [clip(x - w / 2, width), clip(y - h / 2, height), clip(x + w / 2, width), clip(y + h / 2, height)]


def conv(w, name, x, padding=0):
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)


class Plain:
    """One pass over given maps.

    Args:
        weights: state dict of `Cascade`.
        config: its configuration.
        maps: levels ``[B, C, h, w]``, the finest first.
        sizes: height and width of each image.
    """

    def __init__(self, weights, config, maps, sizes):
        self.w, self.config, self.maps, self.sizes = weights, config, maps, sizes
        self.embedding = self.semantic_logits = None
        if config.semantic_classes:
            x = 0
            for i, level in enumerate(maps):
                same = F.interpolate(level, size=maps[1].shape[2:], mode="bilinear", align_corners=True)
                x = x + conv(weights, f"semantic.laterals.{i}.0", same).relu()
            for i in range(4):
                x = conv(weights, f"semantic.convs.{i}.0", x, 1).relu()
            self.embedding = conv(weights, "semantic.embedding.0", x).relu()
            self.semantic_logits = conv(weights, "semantic.classifier", x)

    def pooled(self, image, box, size):
        level = math.floor(4 + math.log2(math.sqrt((box[2] - box[0]) * (box[3] - box[1])) / 224) + 1e-6)
        level = min(max(level, 2), 5) - 2
        known = torch.tensor([box], dtype=torch.float64)
        x = roi_align(self.maps[level][image : image + 1], [known], size, 1 / STRIDES[level], 2)
        if self.embedding is not None:
            extra = roi_align(self.embedding[image : image + 1], [known], 14, 1 / 8, 2)
            x = x + (extra if size == 14 else F.avg_pool2d(extra, 2))
        return x

    def box_head(self, number, image, box):
        """Logits, and deltas by class (one entry if they serve all)."""
        x = self.pooled(image, box, 7).flatten()
        for name in ("fc6", "fc7"):
            x = (self.w[f"box.{number}.{name}.weight"] @ x + self.w[f"box.{number}.{name}.bias"]).relu()
        outputs = (
            self.w[f"box.{number}.{name}.weight"] @ x + self.w[f"box.{number}.{name}.bias"]
            for name in ("cls_score", "bbox_pred")
        )
        logits, deltas = outputs
        return logits, deltas.reshape(-1, 4)

    def mask_logits(self, number, image, box):
        x, features = self.pooled(image, box, 14), None
        for head in range(number + 1) if self.config.mask_flow else [number]:
            y = x
            if features is not None:
                y = y + conv(self.w, f"mask.{head}.residual.0", features).relu()
            for i in range(4):
                y = conv(self.w, f"mask.{head}.convs.{i}.0", y, 1).relu()
            features = y
        up = f"mask.{number}.predictor.conv5_mask"
        x = F.conv_transpose2d(features, self.w[f"{up}.weight"], self.w[f"{up}.bias"], stride=2).relu()
        return conv(self.w, f"mask.{number}.predictor.mask_fcn_logits", x)[0]

    def matched(self, boxes, targets, threshold):
        """Image, box, number of its object or None, and whether it is the object's own."""
        rows = []
        for image, (known, target) in enumerate(zip(boxes, targets, strict=True)):
            objects = target["boxes"].tolist()
            for box, given in [(b, False) for b in known] + [(b, True) for b in objects]:
                overlaps = [iou(other, box) for other in objects]
                best = max(range(len(objects)), key=overlaps.__getitem__, default=None)
                rows.append((image, box, best if objects and overlaps[best] >= threshold else None, given))
        return rows

    def losses(self, proposals, targets):
        config, losses, boxes = self.config, {}, [each.tolist() for each in proposals]
        if config.semantic_classes:
            losses["loss_semantic"] = config.semantic_loss_weight * self.semantic_loss(targets)
        for number, stage in enumerate(config.stages):
            rows = self.matched(boxes, targets, stage.iou)
            class_loss, box_loss, moved = 0.0, 0.0, [[] for _ in boxes]
            for image, box, best, given in rows:
                logits, deltas = self.box_head(number, image, box)
                label = 0 if best is None else int(targets[image]["labels"][best])
                class_loss += float(logits.logsumexp(0) - logits[label])
                move = deltas[0 if len(deltas) == 1 else label or 1 + int(logits[1:].argmax())]
                if best is not None:
                    wanted = encode(targets[image]["boxes"][best].tolist(), box, stage.weights)
                    for got, want in zip(move.tolist(), wanted, strict=True):
                        far, beta = abs(got - want), config.box_loss_beta
                        box_loss += far**2 / (2 * beta) if far < beta else far - beta / 2
                if not given:
                    moved[image].append(decode(move, box, stage.weights, self.sizes[image]))
            losses[f"loss_classifier_{number + 1}"] = stage.loss_weight * class_loss / len(rows)
            losses[f"loss_box_reg_{number + 1}"] = stage.loss_weight * box_loss / len(rows)
            if config.masks:
                rows = self.matched(moved, targets, stage.iou) if config.interleaved else rows
                losses[f"loss_mask_{number + 1}"] = stage.loss_weight * self.mask_loss(number, rows, targets)
            boxes = moved
        return losses

    def mask_loss(self, number, rows, targets):
        total, pixels = 0.0, 0
        for image, box, best, _ in rows:
            if best is None:
                continue
            mask = targets[image]["masks"][best].double()[None, None]
            wanted = roi_align(mask, [torch.tensor([box], dtype=torch.float64)], 28)[0, 0]
            x = self.mask_logits(number, image, box)[targets[image]["labels"][best]]
            total += float((x.exp().add(1).log() - wanted * x).sum())
            pixels += wanted.numel()
        return total / pixels

    def semantic_loss(self, targets):
        total, count = 0.0, 0
        _, _, rows, columns = self.semantic_logits.shape
        for image, target in enumerate(targets):
            height, width = target["semantic"].shape
            for i in range(rows):
                for j in range(columns):
                    y, x = 8 * i + 4, 8 * j + 4
                    if y < height and x < width and target["semantic"][y, x] != 255:
                        logits = self.semantic_logits[image, :, i, j]
                        total += float(logits.logsumexp(0) - logits[target["semantic"][y, x]])
                        count += 1
        return total / count

    def detections(self, proposals):
        """Score, label, box and mask of each image's detections, best first."""
        return [self._detections(image, known.tolist()) for image, known in enumerate(proposals)]

    def _detections(self, image, boxes):
        config, last, found = self.config, len(self.config.stages) - 1, []
        for box in boxes:
            total = 0
            for number, stage in enumerate(config.stages):
                logits, deltas = self.box_head(number, image, box)
                total = total + logits
                if number < last:
                    move = deltas[0 if len(deltas) == 1 else 1 + int(logits[1:].argmax())]
                    box = decode(move, box, stage.weights, self.sizes[image])
            scores = (total / (last + 1)).softmax(0)
            for label in range(1, config.num_classes + 1):
                move = deltas[0 if len(deltas) == 1 else label]
                final = decode(move, box, config.stages[-1].weights, self.sizes[image])
                if scores[label] > config.score_threshold:
                    found.append((float(scores[label]), label, final))
        kept = []
        for score, label, box in sorted(found, reverse=True):
            if all(other != label or iou(box, b) <= config.suppression_iou for _, other, b, _ in kept):
                kept.append((score, label, box, None))
        kept = kept[: config.detections_per_image]
        if not config.masks:
            return kept
        return [(score, label, box, self.mean_mask(image, label, box)) for score, label, box, _ in kept]

    def mean_mask(self, image, label, box):
        stages = range(len(self.config.stages))
        return sum(self.mask_logits(number, image, box)[label].sigmoid() for number in stages) / len(stages)

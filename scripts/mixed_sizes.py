"""Cut every image of a COCO data set to a size of its own, so that batches of it are padded:

    python scripts/mixed_sizes.py bccd/val.json bccd/images mixed
    swinv2 evaluate --weights WEIGHTS --data.path mixed/instances_val.json --split all --batch-size 1
    swinv2 evaluate --weights WEIGHTS --data.path mixed/instances_val.json --split all --batch-size 8

Sides are 50 to 100% of the image's, drawn by its number. Objects of which less than half is left are dropped, and masks
with them all: only boxes are kept.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

LEFT = 0.5


def main() -> None:
    """Write the cut images, then their boxes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boxes", type=Path, help="COCO JSON")
    parser.add_argument("images", type=Path, help="folder of its images")
    parser.add_argument("out", type=Path, help="new folder")
    options = parser.parse_args()
    content = json.loads(options.boxes.read_text())
    (options.out / "val").mkdir(parents=True)
    images, annotations = [], []
    for image in content["images"]:
        frame = draw_frame(image)
        name = f"{Path(image['file_name']).stem}.png"
        Image.open(options.images / image["file_name"]).crop(frame).save(options.out / "val" / name)
        width, height = frame[2] - frame[0], frame[3] - frame[1]
        images.append({"id": image["id"], "file_name": name, "width": width, "height": height})
        mine = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        annotations += [kept for entry in mine if (kept := cut(entry, frame))]
    content = {"images": images, "annotations": annotations, "categories": content["categories"]}
    (options.out / "instances_val.json").write_text(json.dumps(content))
    print(f"wrote {options.out}: {len(images)} images with {len(annotations)} objects")


def draw_frame(image: dict[str, Any]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is kept of an image."""
    rng = random.Random(image["id"])
    width, height = (round(image[side] * rng.uniform(0.5, 1.0)) for side in ("width", "height"))
    left, top = rng.randint(0, image["width"] - width), rng.randint(0, image["height"] - height)
    return left, top, left + width, top + height


def cut(entry: dict[str, Any], frame: tuple[int, int, int, int]) -> dict[str, Any] | None:
    """What is left of an object in a frame, or None if it is too little."""
    x, y, width, height = entry["bbox"]
    left, top = max(x, frame[0]), max(y, frame[1])
    right, bottom = min(x + width, frame[2]), min(y + height, frame[3])
    area = max(right - left, 0) * max(bottom - top, 0)
    if area < LEFT * width * height:
        return None
    box = [left - frame[0], top - frame[1], right - left, bottom - top]
    return {**entry, "bbox": box, "area": area, "segmentation": []}


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Train, evaluate and predict on scikit-learn's digits. Called by `make demo`.
set -euo pipefail
run=runs/demo-$(date +%Y%m%d-%H%M%S)

swinv2 train recipes/digits_nano.yaml --out "$run"

# Some digits of the held-out fifth as image files, as a user would bring them.
python - "$run/digits" <<'PYTHON'
import sys
from pathlib import Path

from swinv2.data.options import DataOptions
from swinv2.data.sources import open_split

folder = Path(sys.argv[1])
folder.mkdir()
digits = open_split(DataOptions(path="digits"), "val")
for i in range(24):
    digits.image(i, channels=1).resize((64, 64)).save(folder / f"{i:02d}-is-{digits.classes[digits.labels[i]]}.png")
PYTHON

swinv2 predict --weights "$run/best.safetensors" "$run/digits" --top 2 --sheet "$run/sheet.png"
swinv2 evaluate --weights "$run/best.safetensors" --data.path digits
echo "run folder: $run"
